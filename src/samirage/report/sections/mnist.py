"""The section of study `mnist`: the paper's Figure 4, and the shift ratio that explains it (arXiv 2509.21818)."""

import math
from collections.abc import Sequence

from samirage.lab.methods import labels_of, method_named
from samirage.lab.results.store import RunFolder
from samirage.report.numbers import duration, percent
from samirage.report.plots import figure_svg, shift_figure, summary_figure, training_figure
from samirage.report.plots.style import PAGE_WIDTH
from samirage.report.plots.summary import USUAL_RHO
from samirage.report.runs import StudyRuns, load_runs
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, FigureBlock, Section, missing_notice
from samirage.report.tables import MethodRow, method_table

CHANCE = 0.1  # ten digits

INTRODUCTION = (
    "Sharpness-Aware Minimization (SAM) trains a neural network by looking a distance ρ uphill and then moving by the "
    "slope that it finds there. When ρ is large, that slope can vanish although the network itself still stands on "
    "one: training stops at a minimum that is not there, a hallucinated one."
)


def build(folder: RunFolder, study: str) -> Section:
    """Build the section.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.

    Raises:
        UserError: If a cell cannot be read.
    """
    runs = load_runs(folder, study)
    rows = method_table(runs)
    config = folder.manifest(study).get("config", {})
    return Section(
        title="Reading handwritten digits (MNIST)",
        headline=(INTRODUCTION, *headline(rows, images=config.get("images"))),
        question="Does SAM stop where no minimum is when a network learns digits, and does a warm start prevent it?",
        notices=missing_notice(folder, study),
        opening=(Block("figure.html", _summary(runs, rows, study)),),
        blocks=(
            Block("methods.html", {"rows": rows, "labels": labels_of(runs.methods())}),
            Block("figure.html", _training(runs, rows, study)),
            Block("figure.html", _shift(runs, rows, study)),
        ),
        facts=() if math.isnan(runs.seconds) else (("computing time", duration(runs.seconds)),),
    )


def summary_svg(folder: RunFolder, study: str = "mnist") -> str:
    """Draw the summary figure as an SVG file of its own, for a README; it follows the reader's light or dark scheme.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        Content of the file.

    Raises:
        UserError: If no cell has finished, or a cell cannot be read.
    """
    runs = load_runs(folder, study)
    figure = summary_figure(runs, chance=CHANCE)
    return figure_svg(figure, prefix=study, label=_describe(method_table(runs)), standalone=True)


def headline(rows: Sequence[MethodRow], *, images: int | None = None) -> tuple[str, ...]:
    """Say in plain words what the runs show, whatever that is.

    Args:
        rows: The table.
        images: Number of training images, if known.

    Returns:
        Paragraphs.
    """
    table = {(row.method, row.rho): row for row in rows}
    alone = [row for row in rows if row.method == "sam"]
    if not alone:
        return ("No run with SAM alone has finished yet.",)
    # The radius that shows the effect most clearly: most hallucinated seeds, then lowest accuracy.
    worst = max(alone, key=lambda row: (row.hallucinated.share, -row.accuracy.mean))
    task = "In this run, a small network learns to read handwritten digits"
    task += f" from {images:,} images. " if images else ". "
    plain, switch = table.get(("sgd", 0.0)), table.get(("switch", worst.rho))
    if worst.hallucinated.k:
        text = task + (
            f"With SAM at ρ = {worst.rho:g}, {worst.hallucinated.k} of {worst.n} networks end at such a point, "
            f"and on average {percent(worst.accuracy.mean)} of the test digits are read correctly"
        )
        text += f" (guessing: {percent(CHANCE)})" if worst.accuracy.mean < 2 * CHANCE else ""
    else:
        text = task + (
            f"No network trained with SAM ends at such a point, at any of {len(alone)} radii; the lowest mean "
            f"accuracy on the test digits is {percent(worst.accuracy.mean)}, at ρ = {worst.rho:g}"
        )
    text += f", where plain training reaches {percent(plain.accuracy.mean)}." if plain else "."
    if switch:
        text += (
            f" Taking plain steps first and switching to SAM afterwards gives {percent(switch.accuracy.mean)}; then "
            f"{switch.hallucinated.k} of {switch.n} networks end at such a point."
        )
    return (text, *_usual(alone))


def _usual(alone: Sequence[MethodRow]) -> tuple[str, ...]:
    usual = [row for row in alone if row.rho <= USUAL_RHO]
    if not usual:
        return ()
    low, high = min(row.accuracy.mean for row in usual), max(row.accuracy.mean for row in usual)
    k, n = sum(row.hallucinated.k for row in usual), sum(row.n for row in usual)
    reached = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
    radii = f"ρ = {usual[0].rho:g}" if len(usual) == 1 else f"{usual[0].rho:g} to {usual[-1].rho:g}"
    return (
        f"At radii in common use ({radii} here), {k} of {n} networks trained with SAM alone end at such a point, and "
        f"the mean accuracy is {reached}.",
    )


def _summary(runs: StudyRuns, rows: Sequence[MethodRow], study: str) -> FigureBlock:
    label = _describe(rows)
    return FigureBlock(
        id=f"{study}-summary",
        title="Final accuracy, and where SAM hallucinates",
        caption=(
            "Final test accuracy (dots: single seeds; lines: their means) and the share of seeds that ended at a "
            "hallucinated point (bars: 95% Wilson intervals), against the perturbation radius ρ. The two methods are "
            "set side by side at each radius. "
            f"Radii up to {USUAL_RHO:g} are those searched in the paper that introduced SAM (arXiv 2010.01412)."
        ),
        drawings=(
            drawing(
                summary_figure(runs, width=PAGE_WIDTH, chance=CHANCE), f"{study}-summary-wide", label, screens="wide"
            ),
            drawing(summary_figure(runs, width=3.8, chance=CHANCE), f"{study}-summary-narrow", label, screens="narrow"),
        ),
    )


THINNED = (
    " Curves are thinned for this page to at most 200 points: the lowest and highest of every stretch are kept. The "
    "raw cells below hold all recorded steps."
)


def _training(runs: StudyRuns, rows: Sequence[MethodRow], study: str) -> FigureBlock:
    return FigureBlock(
        id=f"{study}-training",
        title="Loss and accuracy during training",
        caption=(
            "The paper's Figure 4. Each column is one radius ρ. Above: SAM from the first step on. Below: plain "
            "gradient steps up to the dotted line, then SAM. Thin curves are single seeds, bold ones their mean; the "
            "dashed curve is the mean of plain gradient descent. The loss is on a log scale." + THINNED
        ),
        drawings=(drawing(training_figure(runs), f"{study}-training", "Training curves. " + _describe(rows)),),
    )


def _shift(runs: StudyRuns, rows: Sequence[MethodRow], study: str) -> FigureBlock:
    ratios = "; ".join(
        f"{method_named(row.method).label} at ρ = {row.rho:g}: {row.shift_ratio:.2g}"
        for row in rows
        if row.method != "sgd"
    )
    return FigureBlock(
        id=f"{study}-shift",
        title="The slope that SAM follows, and the real one",
        caption=(
            "The shift ratio r is the length of the gradient that SAM follows, divided by that of the real gradient g. "
            "Near 1 is healthy. A run whose r falls below the dotted line while ‖g‖ stays large is at a hallucinated "
            "point. After the last step there is one marker per seed: filled if it ended at such a point, hollow if "
            "not; the counts above the columns are of filled ones. Both axes are logarithmic; values below 10⁻⁸ are "
            "drawn there. Bold: median of the seeds." + THINNED
        ),
        drawings=(drawing(shift_figure(runs), f"{study}-shift", f"Median shift ratio at the end. {ratios}."),),
    )


def _describe(rows: Sequence[MethodRow]) -> str:
    parts = []
    for method, label in labels_of(dict.fromkeys(row.method for row in rows)).items():
        mine = [row for row in rows if row.method == method]
        values = ", ".join(
            percent(row.accuracy.mean)
            + (f" at ρ = {row.rho:g} ({row.hallucinated.k} of {row.n} hallucinated)" if method != "sgd" else "")
            for row in mine
        )
        if mine:
            parts.append(f"{label}: {values}.")
    return "Mean final test accuracy. " + " ".join(parts)
