"""The section of study `points`: hallucinated points found, followed, come back to, and proved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from samirage.lab.results.constants import POLISHED_SHIFT_RATIO
from samirage.lab.results.store import RunFolder
from samirage.report.numbers import significant
from samirage.report.plots.back import Perturbation, back_plot
from samirage.report.plots.portrait import portrait_plot
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, PlotBlock, Section, missing_notice

INTRODUCTION = (
    "SAM rests where the slope vanishes at a distance ρ uphill. If the slope does not vanish at the network itself, "
    "the minimum that it rests at is not there. Such points can be found, followed as ρ varies, certified, and even "
    "proved."
)

TITLES = {
    "double-well": "A double well: hallucination without a maximizer",
    "bump-on-bowl": "A bump on a bowl: a point that exists and repels",
}

CAPTIONS = {
    "double-well": (
        "First: level lines of the function; SAM stands at the star, looks along the gradient to the true minimizer "
        "opposite, and stays. Second: where SAM ends from every start. Third: the length of the gradient at the star "
        "and the largest learning rate at which SAM stays, for every radius at which the star exists; dotted: the "
        "radius of the other two panels."
    ),
    "bump-on-bowl": (
        "The star is the point that the existence theorem (Theorem 2.2 of arXiv 2509.21818) constructs: behind the "
        "bump it looks through it at the minimizer. It exists for every radius of the third panel and attracts at "
        "none: existence is one question, attraction another."
    ),
}

PERTURBATIONS = {
    "random": "A random direction, 1 % of ‖x‖",
    "downhill": "Against the slope, 10 % of ‖x‖",
    "steepest": "Where the ratio grows fastest",
}


@dataclass(frozen=True)
class ProofRow:
    """A proof, as the table prints it.

    Attributes:
        name: What it is about.
        parameters: Number of coordinates.
        rho: Radius.
        verdict: What is proved.
        confirmed: Whether the checker confirmed it.
        half_width: Half-width of the box.
        seconds: Of proving and of checking.
        planted: Wrong claims tried, and how many of them were proved.
    """

    name: str
    parameters: int
    rho: float
    verdict: str
    confirmed: bool
    half_width: float
    seconds: tuple[float, float]
    planted: tuple[int, int]


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
    portraits = {cell.attrs["function"]: cell for cell in _part(cells, "portrait-")}
    plots = [Block("plot.html", _portrait(name, cell, study)) for name, cell in portraits.items()]
    perturbations = gather(cells)
    blocks = [Block("plot.html", _back(perturbations, study))] if perturbations else []
    rows = [proof_row(cell) for cell in _part(cells, "proof-")]
    if rows:
        statement = max(_part(cells, "proof-"), key=lambda cell: int(cell.parameters) * bool(cell.confirmed))
        blocks.append(Block("proofs.html", {"rows": rows, "statement": statement.attrs["statement"]}))
    forms = {cell.attrs["function"]: _forms(cell) for cell in _part(cells, "closed-forms-")}
    if forms:
        blocks.append(Block("closed_forms.html", forms))
    return Section(
        title="Points: found, followed, returned to, proved",
        headline=(INTRODUCTION, *headline(cells)),
        question="Can hallucinated points be found, followed, returned to and proved?",
        notices=missing_notice(folder, study),
        opening=tuple(plots[:1]),
        blocks=(*plots[1:], *blocks),
    )


def _part(cells: Mapping[str, xr.Dataset], beginning: str) -> list[xr.Dataset]:
    return [cell for name, cell in cells.items() if name.startswith(beginning)]


def headline(cells: Mapping[str, xr.Dataset]) -> tuple[str, ...]:
    """Say in plain words what the cells show, whatever that is.

    Args:
        cells: The finished cells, by name.

    Returns:
        Paragraphs.
    """
    said = []
    forms = _part(cells, "closed-forms-")
    if forms:
        holds, n = sum(int(cell.holds.sum()) for cell in forms), sum(cell.sizes["quantity"] for cell in forms)
        said.append(f"{holds} of {n} numbers that can be worked out by hand agree with what was found.")
    for cell in _part(cells, "portrait-double-well"):
        if len(cell.attracting):
            low, high = cell.attracting.values[0]
            said.append(f"In the double well the point attracts SAM for ρ from {low:.4f} to {high:.4f}.")
    proofs = _part(cells, "proof-")
    if proofs:
        good = [cell for cell in proofs if bool(cell.proved) and bool(cell.confirmed)]
        wrong, tried = _planted(proofs)
        largest = max((int(cell.parameters) for cell in good), default=0)
        said.append(
            f"{len(good)} of {len(proofs)} points are proved by ball arithmetic and confirmed by a separate checker, "
            f"one of them with {largest} parameters; of {tried} wrong claims {wrong or 'none'} "
            f"{'were' if wrong else 'was'} proved."
        )
    return (" ".join(said), *_network_headline(cells)) if said else _network_headline(cells)


def _network_headline(cells: Mapping[str, xr.Dataset]) -> tuple[str, ...]:
    runs = _part(cells, "return-")
    if not runs:
        return ()
    n = sum(cell.sizes["seed"] for cell in runs)
    kinds = [str(cell.attrs["statuses"][int(kind)]) for cell in runs for kind in cell.kind.values]
    named = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))
    back = {
        name: sum(int(cell.back.sel(perturbation=name).sum()) for cell in runs) for name in ("downhill", "steepest")
    }
    gone = float(np.median([cell.distance.sel(perturbation=["downhill", "steepest"]).values[..., -1] /
                            cell["size"].values[:, None] for cell in runs]))  # fmt: skip
    attracted = sum(int((cell.attractor.values == 1).sum()) for cell in runs)
    ratio = max(float(cell.polished_shift_ratio.max()) for cell in runs)
    networks = "1 network" if n == 1 else f"{n} networks"
    return (
        f"{networks} that SAM trained on handwritten digits at ρ = {runs[0].attrs['rho']:g}, polished to a shift ratio "
        f"of at most {significant(ratio, 1)}, got these certificates: {named}; attracting in the strict sense: "
        f"{attracted}. Perturbed against the slope, {back['downhill']} of {n} are at a hallucinated point again "
        f"after {int(runs[0].step[-1]) + 1} steps of SAM, and {back['steepest']} of {n} after the steepest "
        f"perturbation. It is another one: the median distance from the first is {100 * gone:.0f} % of ‖x‖.",
    )


def _planted(proofs: Sequence[xr.Dataset]) -> tuple[int, int]:
    return sum(int(cell.planted_proved.sum()) for cell in proofs), sum(cell.sizes["planted"] for cell in proofs)


def proof_row(cell: xr.Dataset) -> ProofRow:
    """Make the row of one proof.

    Args:
        cell: A cell `proof-…`.

    Returns:
        The row.
    """
    wrong, tried = _planted([cell])
    verdict = "no point found" if not bool(cell.found) else "not proved"
    if bool(cell.proved):
        strict = np.isfinite(float(cell.curvature_above))
        verdict = "exists, strict minimizer at x⁺" if strict else "exists, minimizer at x⁺"
        verdict += ", attracts" if bool(cell.attraction_proved) else ""
    return ProofRow(
        name=cell.attrs["subject"],
        parameters=int(cell.parameters),
        rho=float(cell.attrs["rho"]),
        verdict=verdict,
        confirmed=bool(cell.confirmed),
        half_width=float(cell.half_width),
        seconds=(float(cell.prove_seconds), float(cell.check_seconds)),
        planted=(wrong, tried),
    )


def _forms(cell: xr.Dataset) -> list[dict[str, object]]:
    names = ("expected", "found", "tolerance", "residual", "holds")
    return [
        {"quantity": str(text), **{name: cell[name].values[i].item() for name in names}}
        for i, text in enumerate(cell.quantity.values)
    ]


def gather(cells: Mapping[str, xr.Dataset]) -> list[Perturbation]:
    """Collect what happened after the perturbations: of SAM's networks, and of the largest that provably attracts.

    Args:
        cells: The finished cells, by name.

    Returns:
        One record for each kind of perturbation.
    """
    runs, found = _part(cells, "return-"), []
    for name, title in PERTURBATIONS.items():
        if runs:
            relative = [cell.sel(perturbation=name).distance / cell["size"] for cell in runs]
            control = [cell.control_distance / cell["size"] for cell in runs]
            found.append(
                Perturbation(
                    title,
                    runs[0].step.values,
                    np.concatenate([cell.sel(perturbation=name).shift_ratio.values for cell in runs]),
                    np.concatenate([one.transpose("seed", "step").values for one in relative]),
                    np.concatenate([one.transpose("seed", "step").values for one in control]),
                )
            )
    proved = [cell for cell in _part(cells, "proof-network-") if bool(cell.attraction_proved)]
    if proved:
        curves = [np.stack([cell[name].values for cell in proved]) for name in ("shift_ratio", "distance")]
        sizes = np.array([cell.attrs["size"] for cell in proved])[:, None]
        steps = proved[0].step.values
        found.append(
            Perturbation("Small networks, proved to attract", steps, curves[0], curves[1] / sizes, np.empty((0, 0)))
        )
    return found


def _portrait(name: str, cell: xr.Dataset, study: str) -> PlotBlock:
    label = describe(cell)
    return PlotBlock(
        id=f"{study}-{name}",
        title=TITLES.get(name, name),
        caption=CAPTIONS.get(name, ""),
        drawings=(
            drawing(portrait_plot(cell, columns=3), f"{study}-{name}-wide", label, screens="wide"),
            drawing(portrait_plot(cell, columns=1), f"{study}-{name}-narrow", label, screens="narrow"),
        ),
    )


def describe(cell: xr.Dataset) -> str:
    """Say what a portrait shows, for a screen reader.

    Args:
        cell: The portrait.

    Returns:
        The text.
    """
    low, high = map(float, cell.exists.values)
    attracting = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in cell.attracting.values) or "no radius"
    ends = ", ".join(
        f"{100 * share:.0f} % at a {kind}"
        for kind, share in zip(cell.end_kind.values, cell.end_share.values, strict=True)
    )
    x, y = cell.point.values[0]
    return (
        f"The hallucinated point at ({x:.3g}, {y:.3g}) for radius {cell.attrs['rho']:g} exists for radii from "
        f"{low:.4g} to {high:.4g} and attracts at {attracting}. Runs of SAM end: {ends}."
    )


def _back(perturbations: Sequence[Perturbation], study: str) -> PlotBlock:
    label = " ".join(
        f"{perturbation.title}: the median shift ratio goes from {np.median(perturbation.shift_ratio[:, 0]):.1g} to "
        f"{np.median(perturbation.shift_ratio[:, -1]):.1g}."
        for perturbation in perturbations
    )
    wide = back_plot(perturbations, columns=min(4, len(perturbations)), threshold=POLISHED_SHIFT_RATIO)
    return PlotBlock(
        id=f"{study}-back",
        title="Perturbed, and back",
        caption=(
            "The protocol of the paper's Figure 3. The shift ratio is the length of the slope that SAM follows by that "
            "of the real one. A random direction, among thousands, hardly changes what the network computes; the next "
            "two perturbations are chosen to. Plain steps from the very same point, not perturbed, go far away where "
            "the slope there is real. Last panel: small networks at points that are proved to attract, where SAM comes "
            "back to the point itself. Vertical axes are logarithmic; curves that fall further leave "
            "the frame."
        ),
        drawings=(
            drawing(wide, f"{study}-back-wide", label, screens="wide"),
            drawing(
                back_plot(perturbations, columns=1, threshold=POLISHED_SHIFT_RATIO),
                f"{study}-back-narrow",
                label,
                screens="narrow",
            ),
        ),
    )
