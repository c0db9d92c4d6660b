"""The section of study `doctor`: is the diagnosis right?"""

from collections.abc import Sequence

from samirage.lab.results.store import RunFolder
from samirage.report.diagnoses import Confusion, Life, RunRow, confusion, life, run_row
from samirage.report.plots.confusion import confusion_plot
from samirage.report.plots.life import life_plot
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, PlotBlock, Section, missing_notice

INTRODUCTION = (
    "A diagnosis says what a run of SAM is doing, from numbers that its steps bring along for nothing. Here it is held "
    "against runs whose class is known by construction: on functions whose end can be worked out by hand, and of "
    "networks that were made to freeze, or to train well."
)

FAMILIES = {"analytic": "Analytic functions", "network": "Networks that read handwritten digits"}

# Whose lives are drawn: one of each kind of news.
SHOWN = (
    "softmax-plateau",
    "entropy-batch-0.1",
    "entropy-floor",
    "double-well-inside",
    "ring-maximizer",
    "ring-small-radius",
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
    cells = {name: folder.read_cell(study, name) for name in folder.finished(study)}
    rows = [run_row(cell) for cell in cells.values()]
    panels = {
        "Free figures": confusion(list(cells.values())),
        "With extra passes": confusion(list(cells.values()), "status_confirmed"),
    }
    lives = [life(cells[name]) for name in SHOWN if name in cells]
    label = describe(panels)
    opening = PlotBlock(
        id=f"{study}-confusion",
        title="What runs of each class were called",
        caption=(
            "Rows: what the run is. Columns: what the diagnosis said. Numbers are seeds; right ones on blue. Extra "
            "passes were made for every seed on analytic functions, and for some of the networks."
        ),
        drawings=(
            drawing(confusion_plot(panels), f"{study}-confusion-wide", label, screens="wide"),
            drawing(confusion_plot(panels, cell=0.3), f"{study}-confusion-narrow", label, screens="narrow"),
        ),
    )
    return Section(
        title="Is the diagnosis right?",
        headline=(INTRODUCTION, *headline(rows)),
        question="Does the diagnosis call runs by the right name?",
        notices=missing_notice(folder, study),
        opening=(Block("plot.html", opening),),
        blocks=(
            *((Block("plot.html", _lives(lives, study)),) if lives else ()),
            Block("doctor.html", {"rows": rows, "families": FAMILIES}),
        ),
    )


def _lives(lives: Sequence[Life], study: str) -> PlotBlock:
    label = " ".join(f"{one.title} ends as: {one.statuses[-1]}." for one in lives)
    return PlotBlock(
        id=f"{study}-lives",
        title="The life of a run",
        caption=(
            "The loss of one seed, and below it what the monitor said in each half window. The first window compares "
            "with nothing yet."
        ),
        drawings=(
            drawing(life_plot(lives, columns=min(3, len(lives))), f"{study}-lives-wide", label, screens="wide"),
            drawing(life_plot(lives), f"{study}-lives-narrow", label, screens="narrow"),
        ),
    )


def headline(rows: Sequence[RunRow]) -> tuple[str, ...]:
    """Say in plain words what the runs show, whatever that is.

    Args:
        rows: The table.

    Returns:
        Paragraphs.
    """
    said = []
    for family, name in (("analytic", "on analytic functions"), ("network", "of networks")):
        tellable = [row for row in rows if row.family == family and not row.at_rest]
        if tellable:
            right, n = sum(row.free for row in tellable), sum(row.n for row in tellable)
            said.append(f"{right} of {n} runs {name}")
    if not said:
        return ("No labelled run has finished yet.",)
    text = f"The free figures are right for {' and '.join(said)}."
    resting = [row for row in rows if row.at_rest and row.tried]
    if resting:
        confirmed, tried = sum(row.confirmed for row in resting), sum(row.tried for row in resting)
        text += (
            f" Some runs have come to rest where another class looks the same to them; extra passes over the loss "
            f"then tell {confirmed} of {tried} right."
        )
    return (text,)


def describe(panels: dict[str, Confusion]) -> str:
    """Say what the plot shows, for a screen reader.

    Args:
        panels: Name of the way to diagnose -> how often what was said.

    Returns:
        The text.
    """
    parts = []
    for name, one in panels.items():
        wrong = [
            f"{int(one.counts[i, j])} of class {truth} were called {said}"
            for i, truth in enumerate(one.truths)
            for j, said in enumerate(one.said)
            if said != truth and one.counts[i, j]
        ]
        parts.append(f"{name}: {one.right} of {one.total} seeds right" + (f"; {', '.join(wrong)}." if wrong else "."))
    return " ".join(parts)
