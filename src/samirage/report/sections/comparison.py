"""The section of any study whose results say how they are to be read; see `samirage.lab.results.plot_spec`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from samirage.lab.results.plot_spec import Measure, PlotSpec
from samirage.lab.results.runs import join_blocks
from samirage.lab.results.statistics import MeanEstimate, mean_estimate
from samirage.lab.results.store import RunFolder
from samirage.report.overview import first_question
from samirage.report.plots.comparison import Panels, axis_places, comparison_plot, method_styles
from samirage.report.plots.statuses import Counts, statuses_plot
from samirage.report.sections import generic
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, PlotBlock, Section, missing_notice

_CAPTION = (
    "Means over the seeds; vertical strokes: two standard errors. Where markers are hollow, at least one seed ended at "
    "a hallucinated point."
)


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        value: Mean of the first measure, in the unit of its label.
        hit: Seeds at hallucinated points.
        n: Number of seeds.
        statuses: What the seeds were doing at the end, most frequent first, with their numbers.
    """

    value: MeanEstimate
    hit: int
    n: int
    statuses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ComparisonTable:
    """The table of one panel.

    Attributes:
        title: Its heading.
        methods: Names of its columns.
        rows: For every place on the axis, the entries of the methods; None where nothing has finished.
    """

    title: str
    methods: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[Entry | None]]]


def build(folder: RunFolder, study: str) -> Section:
    """Build the section.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section; without the stored reading, that of `samirage.report.sections.generic`.

    Raises:
        UserError: If a cell or the reading cannot be read.
    """
    reading = folder.reading(study)
    if reading is None:
        return generic.build(folder, study)
    panels = load(folder, study)
    label = describe(panels, reading)
    plots = [
        PlotBlock(
            id=f"{study}-comparison",
            title=f"{reading.measures[0].label} against {reading.axis[0].lower()}{reading.axis[1:]}",
            caption=f"{_CAPTION} {reading.caption}".strip(),
            drawings=(
                drawing(comparison_plot(panels, reading, narrow=False), f"{study}-wide", label, screens="wide"),
                drawing(comparison_plot(panels, reading, narrow=True), f"{study}-narrow", label, screens="narrow"),
            ),
        )
    ]
    counts = status_counts(panels, reading)
    if any(counts.values()):
        told = "; ".join(f"{panel}, {bar}: {_told(bars[bar])}" for panel, bars in counts.items() for bar in bars)
        wide, narrow = (statuses_plot(counts, columns=columns) for columns in (min(3, len(counts)), 1))
        plots.append(
            PlotBlock(
                id=f"{study}-statuses",
                title="What the runs were doing at the end",
                caption="The diagnosis of every seed from the free figures of its last quarter.",
                drawings=(
                    drawing(wide, f"{study}-bars", told, screens="wide"),
                    drawing(narrow, f"{study}-bars-narrow", told, screens="narrow"),
                ),
            )
        )
    return Section(
        title=reading.title,
        headline=(reading.question, *reading.findings),
        question=first_question(reading.question),
        notices=missing_notice(folder, study),
        opening=tuple(Block("plot.html", plot) for plot in plots),
        blocks=(Block("comparison.html", {"tables": tables(panels, reading), "reading": reading}),),
    )


def load(folder: RunFolder, study: str) -> Panels:
    """Read all finished cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        Panel → method → place on the axis → all seeds.

    Raises:
        UserError: If a cell cannot be read.
    """
    cells = [folder.read_cell(study, name) for name in folder.finished(study)]
    panels: dict[str, dict[str, dict[str | float, xr.Dataset]]] = {}
    for (panel, method, x), run in join_blocks(cells, by=("panel", "method", "x")).items():
        panels.setdefault(panel, {}).setdefault(method, {})[x] = run
    return panels


def tables(panels: Panels, reading: PlotSpec) -> list[ComparisonTable]:
    """Make a table for every panel.

    Args:
        panels: The runs.
        reading: How to read them.

    Returns:
        The tables.
    """
    measure, made = reading.measures[0], []
    for panel, lines in panels.items():
        looks = method_styles(list(lines), reading.labels)
        rows = [
            (x if isinstance(x, str) else f"{x:g}", [_entry(line.get(x), measure) for line in lines.values()])
            for x in axis_places({panel: lines}, reading)
        ]
        made.append(ComparisonTable(panel, tuple(look.label for look in looks.values()), rows))
    return made


def _entry(run: xr.Dataset | None, measure: Measure) -> Entry | None:
    if run is None or measure.name not in run:
        return None
    estimate = mean_estimate(measure.factor * run[measure.name].to_numpy().astype(float))
    hit = int(run["hallucinated"].sum()) if "hallucinated" in run else 0
    return Entry(estimate, hit, run.sizes["seed"], tuple(_statuses(run).most_common()))


def _statuses(run: xr.Dataset) -> Counter[str]:
    if "status" not in run:
        return Counter()
    names = [str(name) for name in run.attrs["statuses"]]
    return Counter(names[int(code)].lower().replace("_", " ") for code in run["status"].to_numpy())


def status_counts(panels: Panels, reading: PlotSpec) -> dict[str, Counts]:
    """Count for every method and place on the axis what the seeds were doing at the end.

    Args:
        panels: The runs.
        reading: How to read them.

    Returns:
        Panel → bar → status → seeds; without the runs of which no diagnosis is stored.
    """
    counts: dict[str, Counts] = {}
    for panel, lines in panels.items():
        bars: dict[str, Mapping[str, int]] = {}
        for method, line in lines.items():
            for x in axis_places({panel: {method: line}}, reading):
                statuses = _statuses(line[x])
                if statuses:
                    bars[f"{method}, {x if isinstance(x, str) else f'{x:g}'}"] = statuses
        counts[panel] = bars
    return counts


def describe(panels: Panels, reading: PlotSpec) -> str:
    """Say what the plot shows, for a screen reader.

    Args:
        panels: The runs.
        reading: How to read them.

    Returns:
        The text.
    """
    parts = []
    for table in tables(panels, reading):
        for i, method in enumerate(table.methods):
            entries = [(x, row[i]) for x, row in table.rows]
            told = ", ".join(f"{entry.value.mean:.3g} at {x}" for x, entry in entries if entry is not None)
            parts.append(f"{table.title}, {method}: {told}.")
    return f"{reading.measures[0].label} against {reading.axis}. " + " ".join(parts)


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.items())
