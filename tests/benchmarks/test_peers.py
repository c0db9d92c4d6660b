"""The comparison with other implementations: every cell of samirage's column, and the page against what is stored."""

import hashlib
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.peers import failures, steps
from benchmarks.peers.adapters import PytorchOptimizer, Samirage
from benchmarks.peers.behaviours import BEHAVIOURS
from benchmarks.peers.outcome import NotOfferedError, Outcome, observed, shortened, store
from benchmarks.peers.run import NAMES
from benchmarks.peers.sources import COMPOSER, DAVDA54, Source, fetch, imported

ROOT = Path(__file__).resolve().parents[2]
WITH_RANKS = {"ddp", "m_sharpness", "fsdp"}  # tests/optim/test_distributed.py has these


@pytest.fixture(scope="module")
def comparison():
    spec = importlib.util.spec_from_file_location("update_comparison", ROOT / "scripts" / "update_comparison.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("behaviour", [b for b in BEHAVIOURS if b.key not in WITH_RANKS], ids=lambda b: b.key)
def test_samirage_does_what_its_column_says(behaviour, monkeypatch):
    monkeypatch.setattr(failures, "DRIFT_STEPS", 100)
    monkeypatch.setattr(steps, "REPEATS", 2)
    outcome = observed(lambda: behaviour.probe(Samirage({})))
    assert outcome.holds is (None if behaviour.key == "helper_twice" else True), outcome.figure


class PlainSGD(Samirage):
    """No SAM at all."""

    def make(self, params, wish):
        return wish.base(params, **wish.options)


@pytest.mark.parametrize("key", ["sam_gradient", "closure_alone", "group_radii", "extreme_gradients", "evaluations"])
def test_plain_sgd_does_not_pass_for_sam(key):
    (behaviour,) = [b for b in BEHAVIOURS if b.key == key]

    class Groups(PlainSGD):
        def make(self, params, wish):
            groups = [{k: v for k, v in g.items() if k != "rho"} if isinstance(g, dict) else g for g in params]
            return super().make(groups, wish)

    assert observed(lambda: behaviour.probe(Groups({}))).holds is False


# What a program must see in a peer that the tests run in any case, so that it can tell both ways.
@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("sam_gradient", True),
        ("double_precision", False),
        ("closure_alone", False),
        ("returned_loss", False),
        ("exception_in_pass_2", False),
        ("storage", True),
        ("not_a_number", False),
        ("gradient_in_pass_1_only", True),
        ("gradient_scaler", False),
        ("batch_norm", False),
        ("helper_twice", False),
        ("dropout", False),
        ("copies", False),
        ("scheduler", False),
        ("evaluations", False),
        ("peak_memory", False),
        ("kept_memory", True),
    ],
)
def test_the_programs_tell_both_ways(key, holds):
    (behaviour,) = [b for b in BEHAVIOURS if b.key == key]
    outcome = observed(lambda: behaviour.probe(PytorchOptimizer({})))
    assert outcome.holds is holds, outcome.figure


def test_an_outcome_is_what_was_seen_raised_or_not_offered():
    def fails():
        raise KeyError("fused\nand a second line")

    def lacks():
        raise NotOfferedError("no helper")

    assert observed(lambda: Outcome(True, "1")) == Outcome(True, "1")
    assert observed(fails) == Outcome(False, "raises KeyError: 'fused\\nand a second line'")
    assert observed(lacks) == Outcome(None, "no helper")
    assert shortened("word " * 40) == "word " * 17 + "word …"


def test_outcomes_are_stored_with_their_source(tmp_path):
    path = tmp_path / "new" / "peer.json"
    outcomes = {"drift": Outcome(False, "5e-3")}
    store(path, title="peer", source="peer 1.0", versions={"torch": "2"}, outcomes=outcomes)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored.pop("date").count("-") == 2
    assert stored == {
        "title": "peer",
        "source": "peer 1.0",
        "versions": {"torch": "2"},
        "outcomes": {"drift": {"holds": False, "figure": "5e-3"}},
    }


def test_files_come_from_the_named_commit_and_are_checked(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "a.py").write_text("import missing.part\nVALUE = missing.part.NAME\n", encoding="utf-8")
    git("add", "a.py")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "a.py").write_text("VALUE = 2\n", encoding="utf-8")
    git("commit", "--quiet", "-am", "second")
    folder = tmp_path / "files"
    folder.mkdir()
    checksum = hashlib.sha256(b"import missing.part\nVALUE = missing.part.NAME\n").hexdigest()
    files = fetch(Source("someone/something", commit, {"a.py": checksum}), folder, tmp_path)
    part = type("Part", (), {"NAME": 1})
    stand_ins = {"missing": type("Whole", (), {"part": part}), "missing.part": part}
    assert imported(files["a.py"], "a_file_of_a_peer", stand_ins).VALUE == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("missing")
    with pytest.raises(ValueError, match=r"a\.py of https://github\.com/someone/something/tree/\w+ is not the file"):
        fetch(Source("someone/something", commit, {"a.py": "0" * 64}), folder, tmp_path)


@pytest.mark.parametrize("source", [DAVDA54, COMPOSER], ids=lambda s: s.repository)
def test_sources_are_pinned(source):
    assert len(source.commit) == 40
    assert all(len(checksum) == 64 for checksum in source.files.values())


# --- the page -------------------------------------------------------------------------------------


def test_every_column_has_an_answer_to_every_row(comparison):
    rows = [behaviour.key for behaviour in BEHAVIOURS]
    for column in comparison.COLUMNS:
        stored = json.loads((comparison.RESULTS / f"{column}.json").read_text(encoding="utf-8"))
        if column == "optax":
            assert set(stored["outcomes"]) <= set(rows)
        else:
            assert list(stored["outcomes"]) == rows
    assert set(NAMES) | {"optax"} == set(comparison.COLUMNS)


def test_the_page_says_what_is_stored(comparison):
    assert comparison.PAGE.read_text(encoding="utf-8") == comparison.current()


def test_a_changed_result_changes_the_page(comparison):
    results = {
        column: json.loads((comparison.RESULTS / f"{column}.json").read_text(encoding="utf-8"))
        for column in comparison.COLUMNS
    }
    results["samirage"]["outcomes"]["drift"] = {"holds": False, "figure": "off by a lot"}
    changed = comparison.page(results, None, comparison.tests_by_name())
    (row,) = [line for line in changed.splitlines() if "2,000 steps" in line]
    assert "**no**: off by a lot; tests [1](../tests/optim/" in row


def test_every_cell_of_samirage_names_a_test_that_exists(comparison):
    files = comparison.tests_by_name()
    for behaviour in BEHAVIOURS:
        assert behaviour.tests or behaviour.key == "helper_twice"
        assert set(behaviour.tests) <= set(files)
    with pytest.raises(KeyError, match="test_views"):
        comparison._links(type(BEHAVIOURS[0])(BEHAVIOURS[0].probe, ("test_views",)), files)
