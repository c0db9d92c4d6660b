"""The table against numbers computed by hand, and numbers as they are printed."""

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from samirage.lab.results.statistics import wilson_interval
from samirage.lab.results.store import RunFolder
from samirage.report.numbers import decimals_for, percent, significant, with_error
from samirage.report.runs import StudyRuns, load_runs
from samirage.report.tables import method_row, method_table


def four_seeds() -> xr.Dataset:
    return xr.Dataset(
        {
            "final_test_accuracy": ("seed", np.array([0.8, 0.6, 0.1, np.nan])),
            "final_loss": ("seed", np.array([0.2, 0.4, 0.9, np.nan])),
            "final_shift_ratio": ("seed", np.array([1.0, 0.9, 1e-4, np.nan])),
            "final_grad_norm": ("seed", np.array([0.1, 0.3, 2.0, np.inf])),
            "hallucinated": ("seed", np.array([False, False, True, True])),
            "diverged": ("seed", np.array([False, False, False, True])),
        },
        coords={"seed": [7, 8, 9, 11]},
    )


def test_row_by_hand() -> None:
    row = method_row("sam", 3.0, four_seeds())
    assert (row.method, row.rho, row.n, row.diverged) == ("sam", 3.0, 4, 1)
    # Accuracies 0.8, 0.6, 0.1: mean 0.5, squared deviations 0.09 + 0.01 + 0.16 = 0.26, error sqrt(0.26 / (2·3)).
    assert row.accuracy.mean == pytest.approx(0.5, rel=1e-12)
    assert row.accuracy.standard_error == pytest.approx(math.sqrt(0.26 / 6), rel=1e-12)
    assert (row.accuracy.n, row.accuracy.missing) == (3, 1)
    # Losses 0.2, 0.4, 0.9: mean 0.5, the same deviations.
    assert row.loss.mean == pytest.approx(0.5, rel=1e-12)
    assert (row.worst_accuracy, row.worst_seed) == (0.1, 9)
    assert (row.shift_ratio, row.grad_norm) == (0.9, 0.3)


def test_a_diverged_seed_counts_as_not_hallucinated_whatever_its_flag_says() -> None:
    row = method_row("sam", 3.0, four_seeds())
    assert (row.hallucinated.k, row.hallucinated.n) == (1, 4)
    assert (row.hallucinated.low, row.hallucinated.high) == wilson_interval(1, 4)


def test_all_seeds_diverged_is_a_row_without_numbers() -> None:
    row = method_row("sam", 3.0, four_seeds().isel(seed=[3]))
    assert (row.n, row.diverged, row.worst_seed) == (1, 1, None)
    assert all(math.isnan(v) for v in (row.accuracy.mean, row.loss.mean, row.worst_accuracy, row.shift_ratio))


def test_rows_keep_the_order_of_the_methods_and_join_blocks_of_seeds(study: StudyRuns) -> None:
    rows = method_table(study)
    rhos = [0.05, 0.2, 0.5, 1.0, 3.0, 10.0]
    assert [(row.method, row.rho) for row in rows] == [
        ("sgd", 0.0), *(("sam", rho) for rho in rhos), *(("switch", rho) for rho in rhos)
    ]  # fmt: skip
    assert {row.n for row in rows} == {16}
    collapsed = rows[6]
    assert (collapsed.rho, collapsed.hallucinated.k) == (10.0, 16)
    assert collapsed.accuracy.mean < 0.2 < 0.7 < rows[-1].accuracy.mean


def test_table_agrees_with_the_files(run_folder: RunFolder, study: StudyRuns) -> None:
    cells = [run_folder.read_cell("mnist", f"sam_rho3_seeds{block}") for block in ("0-7", "8-15")]
    accuracy = np.concatenate([cell["final_test_accuracy"].to_numpy() for cell in cells]).astype(float)
    row = next(r for r in method_table(study) if (r.method, r.rho) == ("sam", 3.0))
    assert row.accuracy.mean == pytest.approx(accuracy.mean(), rel=1e-12)
    assert row.worst_accuracy == accuracy.min()
    assert row.worst_seed == int(accuracy.argmin())


@pytest.mark.parametrize(
    ("value", "error", "scale", "text"),
    [
        (0.83421, 0.00312, 100, "83.4 ± 0.3"),
        (0.83421, 0.00149, 100, "83.42 ± 0.15"),
        (0.83421, 0.00996, 100, "83.4 ± 1.0"),
        (0.5, 0.04361, 1, "0.50 ± 0.04"),
        (1234.5, 23.0, 1, "1230 ± 20"),
        (-0.0004, 0.02, 1, "0.00 ± 0.02"),
        (-0.5, 0.02, 1, "−0.50 ± 0.02"),
        (0.0077, math.nan, 1, "0.0077"),
        (1.0, 0.0, 100, "100"),
        (math.nan, math.nan, 1, "–"),
        (math.inf, 1.0, 1, "∞"),
    ],
)
def test_values_are_rounded_by_their_error(value: float, error: float, scale: float, text: str) -> None:
    assert with_error(value, error, scale=scale) == text


@pytest.mark.parametrize(
    ("error", "decimals"), [(0.0949, 2), (0.0951, 2), (0.0996, 2), (0.14, 2), (0.2, 1), (1.0, 1), (9.6, 0), (99.0, -1)]
)
def test_number_of_decimals_is_read_after_rounding(error: float, decimals: int) -> None:
    assert decimals_for(error) == decimals


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-7, "10⁻⁷"), (-2.5e-5, "−2.5 × 10⁻⁵"), (1500.0, "1,500"), (3e9, "3 × 10⁹"), (0.999, "0.999")],
)
def test_small_and_large_numbers(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (0.004, "0.4%"), (0.5, "50%"), (0.9999, "100.0%"), (0.994, "99%"), (1.0, "100%")]
)
def test_a_share_is_all_or_nothing_only_when_it_is(share: float, text: str) -> None:
    assert percent(share) == text


def test_reading_needs_no_order_of_blocks(tmp_path: Path) -> None:
    from tests.report.synthetic_run import make_folder

    folder = make_folder(tmp_path / "run", rhos=(1.0,), blocks=(range(4, 8), range(4)))
    runs = load_runs(folder, "mnist").of("sam", 1.0)
    assert runs is not None
    assert runs["seed"].to_numpy().tolist() == list(range(8))
