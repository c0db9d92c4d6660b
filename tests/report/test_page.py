"""The page: what it says, that it is whole and self-contained, and what is said when the run folder is not usable."""

import base64
import gzip
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from samirage.errors import UserError
from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.runs import StudyRuns
from samirage.report.sections.mnist import headline, summary_svg
from samirage.report.tables import method_table
from tests.report.synthetic_run import COMMAND, make_cell, make_folder

DOCUMENTS = {"../claims.json", "../manifest.json"}


class Outline(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.figures: list[tuple[str | None, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [v for k in ("href", "src", "xlink:href", "srcset", "action") if (v := values.get(k))]
        self.ids += [v] if (v := values.get("id")) else []
        if tag == "svg":
            self.figures.append((values.get("aria-labelledby"), values.get("aria-describedby")))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def outline(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_outside_itself(page: Path, outline: Outline) -> None:
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert "<script src" not in html
    for reference in outline.references:
        assert reference.startswith(("#", "data:", "../cells/mnist/")) or reference in DOCUMENTS, reference
    assert page.stat().st_size < 4_000_000


def test_studies_with_surfaces_carry_the_library_once_and_compressed(stored_page: Path) -> None:
    html = stored_page.read_text(encoding="utf-8")
    (packed,) = re.findall(r'id="plotting-library">([^<]+)<', html)
    library = gzip.decompress(base64.b64decode(packed))
    assert b"plotly.js v" in library[:200]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(library).digest()).decode()}'" in html.partition("<style>")[0]
    assert len(packed) < 2_000_000
    assert len(html.encode()) - len(packed) < 1_000_000  # three studies, among them that with the most drawn in it


def test_every_script_is_known_to_the_policy_and_nothing_else_may_run(stored_page: Path) -> None:
    html = stored_page.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    allowed = set(rules["script-src"].split())
    assert all(source.startswith("'sha256-") for source in allowed)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts}
    assert hashes < allowed
    assert len(allowed) == len(scripts) + 1  # that of the library


def test_a_packed_study_links_its_one_file(stored_page: Path) -> None:
    outline = Outline(stored_page.read_text(encoding="utf-8"))
    files = {reference for reference in outline.references if reference.startswith("../cells/")}
    assert "../cells/batch.nc" in files
    assert {unquote(file) for file in files} == {
        f"../{path.relative_to(stored_page.parents[1])}" for path in stored_page.parents[1].rglob("*.nc")
    }
    assert "guard not finished" in outline.text


def test_links_lead_to_the_raw_results(page: Path, outline: Outline) -> None:
    files = [reference for reference in outline.references if reference.startswith("../")]
    assert set(files) >= DOCUMENTS
    assert len(set(files) - DOCUMENTS) == len(RunFolder(page.parent.parent).finished("mnist"))
    for file in files:
        assert (page.parent / file).resolve().exists()
    targets = [reference[1:] for reference in outline.references if reference.startswith("#")]
    assert set(targets) <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)


def test_every_figure_says_what_it_shows(page: Path, outline: Outline) -> None:
    html = page.read_text(encoding="utf-8")
    figures = [(title, words) for title, words in outline.figures if title]
    assert len(figures) >= 3
    assert len(figures) == html.count('role="img"')
    for title, words in figures:
        assert {title, words} <= set(outline.ids)
        told = re.search(rf'id="{words}">([^<]*)<', html)
        assert told
        assert len(told[1]) > 40


def test_the_page_says_what_was_claimed_and_how_it_was_made(page: Path, outline: Outline) -> None:
    claims = RunFolder(page.parent.parent).claims("mnist")
    assert {claim.verdict.value for claim in claims} >= {"holds", "fails"}
    for claim in claims:
        assert claim.statement in outline.text
    for verdict in ("holds", "fails"):
        assert verdict in outline.text
    assert COMMAND in outline.text  # quotes and angle brackets included: escaped once, not twice


def test_an_interrupted_run_is_shown_and_says_so(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run")
    missing = folder.finished("mnist")[-1]
    (tmp_path / "run/cells/mnist" / f"{missing}.nc").unlink()
    text = Outline(build_page(folder).read_text(encoding="utf-8")).text
    assert missing in text
    assert "1 of" in text


def test_torch_is_not_imported(run_folder: RunFolder) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom samirage.lab.results.store import RunFolder\n"
        "from samirage.report.page import build_page\n"
        f"build_page(RunFolder(Path({str(run_folder.path)!r})))\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; name the folder of a run"):
        build_page(RunFolder(tmp_path / "nowhere"))
    empty = RunFolder(tmp_path / "empty")
    empty.write_manifest("mnist", {"config": {}, "cells": ["sgd"]})
    with pytest.raises(UserError, match="holds no finished cell; run `samirage reproduce`"):
        build_page(empty)
    folder = make_folder(tmp_path / "run")
    claims = folder.path / "claims.json"
    claims.write_text('{"mnist": [{"statement": "half a claim"}]}')
    with pytest.raises(UserError, match=r"claims.json holds a claim that cannot be read"):
        build_page(folder)
    claims.unlink()
    cell = folder.path / "cells/mnist" / f"{folder.finished('mnist')[0]}.nc"
    cell.write_bytes(cell.read_bytes()[:300])
    with pytest.raises(UserError, match=r"cannot be read .*delete it and run `samirage reproduce mnist` again"):
        build_page(folder)
    assert not (folder.path / "report/index.html").exists()


def test_a_study_without_a_section_of_its_own_gets_a_list_of_its_cells(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", rhos=(1.0,), blocks=(range(2),))
    folder.write_manifest("other", {"cells": ["a", "b"], "config": {"<key>": {"inner": None}}})
    folder.write_cell("other", "a", folder.read_cell("mnist", folder.finished("mnist")[0]))
    outline = Outline(build_page(folder).read_text(encoding="utf-8"))
    assert "1 of 2 cells have finished." in outline.text
    assert "1 of 2 cells has not finished: b." in outline.text
    assert "<key>.inner none" in outline.text
    assert {"mnist", "other"} <= set(outline.ids)
    assert {"#mnist", "#other", "../cells/other/a.nc"} <= set(outline.references)
    assert "../cells/other/b.nc" not in outline.references


def test_the_headline_is_computed(study: StudyRuns) -> None:
    rows = method_table(study)
    text = " ".join(headline(rows, images=1000))
    plain, alone, switch = rows[0], rows[6], rows[12]
    assert "from 1,000 images" in text
    assert f"With SAM at ρ = 10, {alone.hallucinated.k} of 16 networks end at such a point" in text
    assert f"on average {alone.accuracy.mean:.0%} of the test digits" in text
    assert f"plain training reaches {plain.accuracy.mean:.0%}." in text
    assert f"gives {switch.accuracy.mean:.0%}; then {switch.hallucinated.k} of 16 networks" in text
    assert "radii in common use (0.05 to 0.5 here), 0 of 48 networks" in text


def test_the_headline_does_not_claim_what_did_not_happen(study: StudyRuns) -> None:
    healthy = [row for row in method_table(study) if not row.hallucinated.k]
    assert "No network trained with SAM ends at such a point, at any of 4 radii" in " ".join(headline(healthy))
    assert "With SAM at" not in " ".join(headline(healthy))
    assert headline([row for row in healthy if row.method != "sam"]) == ("No run with SAM alone has finished yet.",)


def test_a_cell_without_its_variables_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", rhos=(1.0,), blocks=(range(2),))
    name = folder.finished("mnist")[0]
    folder.write_cell("mnist", name, folder.read_cell("mnist", name).drop_vars(["loss", "diverged"]))
    with pytest.raises(UserError, match=f"cell '{name}' .* lacks loss, diverged; delete it"):
        build_page(folder)


def test_blocks_of_other_lengths_do_not_fit_together(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", rhos=(1.0,), blocks=(range(2), range(2, 4)))
    folder.write_cell("mnist", "sam_rho1_seeds2-3", make_cell("sam", 1.0, range(2, 4), steps=100))
    with pytest.raises(UserError, match="do not fit together"):
        build_page(folder)


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", rhos=(1.0,), blocks=(range(2),))
    (folder.path / "report").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*index\.html"):
        build_page(folder)
    assert sorted(p.name for p in folder.path.glob("[!.]*")) == ["cells", "claims.json", "manifest.json", "report"]


def test_the_readme_picture_brings_its_colours_along(run_folder: RunFolder) -> None:
    svg = summary_svg(run_folder)
    assert svg.startswith("<svg")
    assert "prefers-color-scheme:dark" in svg


def test_columns_of_the_table_stand_under_their_headings(page: Path) -> None:
    table = page.read_text(encoding="utf-8").split('<table class="methods">')[1].split("</table>")[0]
    headings = [re.sub("<[^>]+>", " ", cell).split() for cell in re.findall(r"<th scope=\"col\">(.*?)</th>", table)]
    names = [words[0] for words in headings]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"(?s)<tr[^>]*>(.*?)</tr>", table)]
    by_name = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    collapsed = next(row for row in by_name if row["Radius"] == "10")
    assert collapsed["At"] == "16 of 16"
    assert collapsed["95%"] == "81% to 100%"
    assert (collapsed["Diverged"], collapsed["Seeds"]) == ("0", "16")
    assert float(collapsed["Test"].split()[0]) < 20
    assert 0.1 < float(collapsed["Training"].split()[0]) < 1
