"""Studies toy, construction and network at smoke scale: what they claim holds, and fails where it should."""

import numpy as np
import pytest

from samirage.errors import UserError
from samirage.lab.results.claims import Verdict
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.sweep.reproduce import reproduce
from samirage.report.page import build_page

NAMES = ("toy", "construction", "network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("pictures") / "run")
    for study in create(NAMES, "smoke", {"threads": 1}):
        assert reproduce([study], run, command=f"samirage reproduce {study.name} --scale smoke") == []
    return run


@pytest.mark.slow
@pytest.mark.parametrize("study", ["toy", "construction"])
def test_every_claim_about_functions_holds_even_at_the_smallest_scale(folder: RunFolder, study: str) -> None:
    claims = folder.claims(study)
    assert len(claims) >= 5
    assert [c.statement for c in claims if c.verdict is not Verdict.HOLDS] == []


@pytest.mark.slow
def test_the_farthest_point_obeys_lagrange_and_lies_on_the_edge_of_its_component(folder: RunFolder) -> None:
    for name in ("moat", "bump"):
        cell = folder.read_cell("construction", name)
        away = cell.x_star.values - cell.x_h.values
        cosine = away @ cell.gradient.values / np.linalg.norm(away) / np.linalg.norm(cell.gradient.values)
        assert cosine == pytest.approx(1.0, abs=1e-12)
        assert float(cell.loss.values[cell.component.values.astype(bool)].min()) >= float(cell.level)
        assert float(cell.farthest_of_grid) <= np.linalg.norm(away) + 1e-9


@pytest.mark.slow
def test_the_networks_point_is_hallucinated_and_its_planes_are_honest(folder: RunFolder) -> None:
    cell = folder.read_cell("network", "random")
    assert float(cell.grad_plus_norm_at) < 1e-4 * float(cell.grad_norm_at)
    middle = cell.isel(first=4, second=4)
    assert float(middle.loss) == pytest.approx(float(cell.loss_at), rel=1e-12)
    assert float(middle.loss_sam) == pytest.approx(float(cell.loss_sam_at), rel=1e-9)
    assert float(cell.mark_distance.max()) == 0.0
    way = folder.read_cell("network", "trajectory")
    assert float(way.end_shift_ratio) < 0.1 * float(way.start_shift_ratio)


@pytest.mark.slow
def test_the_page_shows_maps_and_surfaces_and_runs_no_script_but_its_own(folder: RunFolder) -> None:
    html = build_page(folder).read_text(encoding="utf-8")
    assert html.count('class="surfaces"') == 2
    assert html.count("sha256-") == 5  # four scripts of its own, and the library
    policy = html[html.index("Content-Security-Policy") :].partition(">")[0]
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy
    assert html.count("Plotly.newPlot(view") == 1  # the library and what uses it, once


@pytest.mark.parametrize("study", NAMES)
def test_settings_of_other_studies_are_refused(study: str) -> None:
    with pytest.raises(UserError, match=f"study {study} has losses and radii of its own: leave out --loss and --rho"):
        create([study], "smoke", {"loss": "cross-entropy", "rhos": (0.1,)})
