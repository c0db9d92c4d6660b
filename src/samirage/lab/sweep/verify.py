"""Do the claims of a run folder follow from its cells? Every claim and reading recomputed, without training."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.claims import Claim
from samirage.lab.results.digest import digest
from samirage.lab.results.json_files import printable
from samirage.lab.results.plot_spec import PlotSpec
from samirage.lab.results.store import BY_STUDY, RunFolder
from samirage.lab.studies import study_type

# Values are means, shares, medians and extremes of stored numbers, in float64. On one machine they are equal. Another
# machine, or another version of NumPy, adds up in another order, which moves a mean of n numbers of about 1 by less
# than n units in their 16th digit; n is below 10,000. The last digits of what nearly cancels are no evidence either.
RELATIVE: Final = 1e-9
ABSOLUTE: Final = 1e-15


@dataclass(frozen=True)
class Difference:
    """Something that is stored, and does not follow from the cells.

    Attributes:
        study: Name of the study.
        what: The claim by its statement, the cell by its name, or the part of the reading.
        field: Which field of it.
        stored: What is stored; None for nothing.
        recomputed: What the cells yield; None for nothing.
    """

    study: str
    what: str
    field: str
    stored: Any
    recomputed: Any

    def __str__(self) -> str:
        """The difference on one line."""
        stored, recomputed = (_shown(value) for value in (self.stored, self.recomputed))
        return printable(f"{self.study}: {self.what}: {self.field}: stored {stored}, recomputed {recomputed}")


@dataclass(frozen=True)
class Verified:
    """What became of one study.

    Attributes:
        study: Name of the study.
        cells: Number of its stored cells.
        claims: Number of its stored claims.
        digests: Whether digests of its cells were stored, by which a cell that was changed is noticed even where no
            claim depends on it.
        differences: What does not follow from the cells.
    """

    study: str
    cells: int
    claims: int
    digests: bool
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Recomputed:
    """What the cells of a study yield with the code at hand.

    Attributes:
        plan: Names of all cells that the configuration asks for, in order.
        cells: The finished ones.
        claims: The claims.
        reading: The reading, if the study has one.
        digests: The digest of every finished cell.
    """

    plan: tuple[str, ...]
    cells: Mapping[str, xr.Dataset]
    claims: tuple[Claim, ...]
    reading: PlotSpec | None
    digests: Mapping[str, str]


def recompute(folder: RunFolder, study: str) -> Recomputed:
    """Compute the claims and the reading of a study from its stored cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        What the cells yield.

    Raises:
        UserError: If the folder does not hold the study, this version does not know it, or the configuration or a cell
            is not one of this study.
    """
    manifest, kind = folder.manifest(study), study_type(study)
    cells = {name: folder.read_cell(study, name) for name in folder.finished(study)}

    def made() -> Recomputed:
        config = manifest.get("config", {})
        # A count of seeds in a foreign file could be any number; the list of them is as long as the file.
        if config.get("seeds") != len(manifest.get("seeds", [])):
            raise ValueError(f"the configuration says {config.get('seeds')!r} seeds, and as many are not listed")
        one = kind.recorded(config)
        plan, command = tuple(cell.name for cell in one.cells()), manifest.get("command") or "unknown"
        return Recomputed(
            plan, cells, tuple(one.claims(cells, command)), one.reading(cells), {n: digest(c) for n, c in cells.items()}
        )

    return _said(made, f"{folder.path} holds no results of study {study} as this version knows it")


def unlisted(folder: RunFolder) -> list[Difference]:
    """Return what the folder stores of studies that its manifest does not name.

    Args:
        folder: The run folder.
    """
    known, cells = set(folder.studies()), folder.place("cells")
    found = [(study, name) for name in BY_STUDY for study in folder.by_study(name) if study not in known]
    held = {path.name.removesuffix(".nc") for path in cells.iterdir()} if cells.is_dir() else set()
    found += [(study, "cells") for study in sorted(held - known) if not study.startswith(".")]
    return [Difference(study, name, "study", "stored", None) for study, name in found]


def _said(make: Callable[[], Recomputed], trouble: str) -> Recomputed:
    try:
        return make()
    except UserError:
        raise
    except Exception as error:  # a study meets data that it has not made, and may fail at any line
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{trouble} ({said}); restore it, or use the version that made it") from error


def verify(folder: RunFolder, study: str) -> Verified:
    """Hold what is stored of a study against what its cells yield with the code at hand.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        What became of it.

    Raises:
        UserError: If it cannot be recomputed; see `recompute`.
    """
    found = recompute(folder, study)
    planned, digests = folder.manifest(study)["cells"], folder.digests(study)
    differences = [
        *(Difference(study, f"cell {name}", "plan", None, "planned") for name in found.plan if name not in planned),
        *(Difference(study, f"cell {name}", "plan", "planned", None) for name in planned if name not in found.plan),
        *(Difference(study, f"cell {name}", "file", None, "planned") for name in planned if name not in found.cells),
        *(Difference(study, f"cell {name}", "file", "a file", None) for name in folder.unplanned(study)),
        *(
            Difference(study, f"cell {name}", "digest", digests[name], now)
            for name, now in found.digests.items()
            if digests.get(name, now) != now
        ),
        *_claims(study, folder.claim_records(study), [claim.to_dict() for claim in found.claims]),
        *_reading(study, folder.reading(study), found.reading),
    ]
    return Verified(study, len(found.cells), len(folder.claim_records(study)), bool(digests), tuple(differences))


def _claims(study: str, stored: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Compare claims by statement; those left over, whose statements may tell of the numbers, in their order."""
    differences = []
    left, pairs = list(stored), []
    for claim in now:
        same = next((record for record in left if record["statement"] == claim["statement"]), None)
        if same is not None:
            left.remove(same)
        pairs.append((same, claim))
    for record, claim in pairs:
        before = record if record is not None else left.pop(0) if left else None
        if before is None:
            differences.append(Difference(study, claim["statement"], "claim", None, "a claim"))
            continue
        full = {**Claim.from_dict(before).to_dict(), "verdict": before.get("verdict")}
        differences += [
            Difference(study, before["statement"], field, full[field], value)
            for field, value in claim.items()
            # Version 0.1.0 did not store why there is no error.
            if not _same(full[field], value) and (field in before or field != "no_error")
        ]
    differences += [Difference(study, record["statement"], "claim", "a claim", None) for record in left]
    if not differences and [one["statement"] for one in stored] != [one["statement"] for one in now]:
        differences.append(Difference(study, "the claims", "order", "another", "that of the study"))
    return differences


def _reading(study: str, stored: PlotSpec | None, now: PlotSpec | None) -> list[Difference]:
    before, after = ({} if one is None else one.to_dict() for one in (stored, now))
    return [
        Difference(study, "the reading", field, before.get(field), after.get(field))
        for field in {**before, **after}
        if _listed(before.get(field)) != _listed(after.get(field))
    ]


def _listed(value: Any) -> Any:  # a reading that was read back has lists for tuples
    return [_listed(one) for one in value] if isinstance(value, list | tuple) else value


def _same(stored: Any, now: Any) -> bool:
    if float in {type(stored), type(now)} and {type(stored), type(now)} <= {float, int}:
        return math.isclose(stored, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(stored) is type(now) and bool(stored == now)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
