"""README and documentation say what the stored runs say: numbers have sources, new studies come by themselves."""

from typing import ClassVar

import pytest

import update_pages
from pages import caveats, choosing, numbers, results, stored
from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.batch import BatchStudy
from samirage.lab.sweep.reproduce import reproduce
from samirage.sam import Guard

# Numbers that are no measurements: settings, as the code has them.
SETTINGS = {f"{100 * (Guard().growth - 1):g}%"}
GENERATED_WHOLLY = {
    "sam-implementations-compared.md"
}  # from results/peers, held to it by tests/benchmarks/test_peers.py


def texts():
    return {p.name: p.read_text(encoding="utf-8") for p in update_pages.pages() if p.name not in GENERATED_WHOLLY}


def unsourced(pages):
    sourced = set().union(*(numbers.measurements(update_pages.written(text)) for text in pages.values()))
    rest = {name: numbers.measurements(update_pages.rest(text)) for name, text in pages.items()}
    return {name: found - sourced - SETTINGS for name, found in rest.items() if found - sourced - SETTINGS}


def test_every_measured_number_comes_from_the_stored_results():
    assert unsourced(texts()) == {}


@pytest.mark.parametrize("planted", ["about 87.65 % of the digits", "0.765 ± 0.043", "13 of 17 networks"])
@pytest.mark.parametrize("page", ["README.md", "choosing.md", "results.md"])
def test_a_number_from_nowhere_is_found(page, planted):
    pages = texts()
    assert unsourced(pages | {page: pages[page] + f"\nSAM reaches {planted}.\n"}).keys() == {page}


def test_pages_and_pictures_are_what_the_script_writes(capsys):
    code = update_pages.main(["--check"])
    assert code == 0, capsys.readouterr().out


def test_a_page_that_was_edited_by_hand_is_stale(monkeypatch, tmp_path, capsys):
    page = (update_pages.ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(page.replace("89.2", "91.2"), encoding="utf-8")
    monkeypatch.setattr(update_pages, "ROOT", tmp_path)
    monkeypatch.setattr(update_pages, "FIGURES", tmp_path / "docs" / "figures")
    monkeypatch.setattr(update_pages, "pictures", dict)
    assert update_pages.main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md is out of date: run scripts/update_pages.py\n"
    (tmp_path / "docs").mkdir()
    assert update_pages.main([]) == 0
    assert update_pages.main(["--check"]) == 0


def test_a_number_in_a_block_is_renewed():
    name = "caveats.md"
    page = texts()[name]
    said = caveats.fails_block()[0]
    assert said in page
    assert update_pages.updated(page.replace(said, "All claims hold.")) == page


def test_the_advice_is_what_the_stored_comparison_says():
    ranked = choosing.remedies()
    best, plain = [one for one in ranked if one.gradients > 1], next(one for one in ranked if one.gradients == 1)
    assert plain.below.mean == 0
    assert all("uard" in one.label and "decays" in one.label for one in best[:2])  # "let it decay as well"
    assert all(one.hit == 0 for one in ranked if "uard" in one.label)
    assert all(one.hit > 0 for one in ranked if "uard" not in one.label and one is not plain)
    found = [choosing.alone("", cells) for cells in choosing._runs().values()]
    assert all(one.safe is not None and one.safe >= 0.05 for one in found)  # "begin with rho=0.05"


class Fresh(BatchStudy):
    name: ClassVar[str] = "fresh"

    def cases(self):
        return super().cases()[:4]  # one batch size

    def claims_of(self, runs, command):
        share = {"relation": Relation.AT_LEAST, "expected": 0.5, "standard_error": 0.1, "n": 2, "command": command}
        return [
            Claim(statement="refuted | in this run", source="ours", measured=0.25, **share),
            Claim(
                statement="of another size", source="Table 1", measured=0.25, comparable=False, reason="toy", **share
            ),
        ]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("fresh"))
    study = Fresh.create("smoke", {"threads": 1, "steps": 20}, None)
    assert not reproduce([study], folder, command="samirage reproduce fresh --scale smoke")
    return folder


def test_a_study_that_is_stored_later_appears_everywhere(fresh, monkeypatch):
    for module in (stored, results, caveats, choosing):
        monkeypatch.setattr(module, "FOLDER", fresh)
    reading = fresh.reading("fresh")
    assert "| [fresh](#fresh) | Batch size | – | 1 | 1 |" in results.overview_block()
    page = "\n".join(results.studies_block())
    for part in (
        reading.question,
        *reading.findings,
        "figures/fresh.svg",
        "| **fails** | refuted \\| in this run | ≥ 0.5 | 0.25 ± 0.10 | 2 | ours |",
        "`samirage reproduce fresh --scale smoke`",
        f"torch {fresh.manifest('fresh')['versions']['torch']}",
        fresh.manifest("fresh")["started"][:10],
    ):
        assert part in page
    assert results.figures()["fresh"].startswith("<svg ")
    assert "| refuted \\| in this run | ≥ 0.5 | 0.25 ± 0.10 | 2 |" in caveats.fails_block()
    assert caveats.not_comparable_block() == ["- [Batch size](results.md#fresh): of another size: toy"]
    assert choosing.further_block() == [f"- [Batch size](results.md#fresh): {reading.question}"]
    assert choosing.findings_block("switch")() == ["Study `switch` is not stored yet."]


def test_a_figure_of_its_own_has_size_and_colours(fresh):
    svg = results.standalone('<svg viewBox="0 0 72 36" role="img"><path d="M0 0"/></svg>', 96)
    assert svg.startswith('<svg viewBox="0 0 72 36" role="img" width="96" height="48"><style>')
    assert "prefers-color-scheme:dark" in svg
    with pytest.raises(ValueError, match="without a viewBox"):
        results.standalone("<svg><path/></svg>", 96)


def test_many_claims_that_hold_are_folded_and_none_that_fails():
    made = [
        Claim(statement=f"claim {i}", source="ours", relation=Relation.AT_LEAST, expected=0.5, measured=m,
              standard_error=0.1, n=2, command="c")
        for i, m in enumerate([1.0] * 6 + [0.0])
    ]  # fmt: skip
    lines = results.claims_lines(made)
    fold = lines.index('<details markdown="1">')
    assert any("claim 6" in line for line in lines[:fold])
    assert not any("claim 6" in line for line in lines[fold:])
    assert "6 of 7 claims hold" in lines[fold + 1]
    assert "details" not in "".join(results.claims_lines(made[:6]))
