"""The studies, by name; each is loaded when it is asked for.

To add one, write its class on the protocol of `samirage.lab.studies.base`, and add a line here.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from samirage.errors import UserError

if TYPE_CHECKING:  # the list of studies is needed without waiting for torch
    from samirage.lab.studies.base import AbstractSeededStudy, AbstractStudy

# Where the class of each study is.
_STUDIES: Final[Mapping[str, str]] = {
    "mnist": "mnist:MnistStudy",
    "guard": "guard:GuardStudy",
    "alternatives": "alternatives:AlternativesStudy",
    "wells": "wells:WellsStudy",
    "doctor": "doctor.study:DoctorStudy",
    "points": "points.study:PointsStudy",
    "toy": "toy:ToyStudy",
    "construction": "construction:ConstructionStudy",
    "network": "network:NetworkStudy",
    "evidence": "evidence:EvidenceStudy",
    "switch": "switch:SwitchStudy",
    "decay": "decay:DecayStudy",
    "noise": "noise:NoiseStudy",
    "variants": "variants:VariantsStudy",
    "batch": "batch:BatchStudy",
    "arch": "arch:ArchStudy",
    "prevalence": "prevalence:PrevalenceStudy",
    "small-rho": "small_rho:SmallRhoStudy",
    "cifar": "cifar:CifarStudy",
}
STUDIES: Final = tuple(_STUDIES)

# Studies whose data set is not in the package: where it is not to be had, "all studies" are all others.
_NEEDS_DATA: Final = ("cifar",)


def study_type(name: str) -> "type[AbstractSeededStudy[Any]]":
    """Return the class of a study.

    Args:
        name: Its name.

    Raises:
        UserError: If the name is unknown.

    Example:
        >>> study_type("mnist").name
        'mnist'
    """
    if name not in _STUDIES:
        raise UserError(f"unknown study {name!r}: the studies are {', '.join(_STUDIES)}")
    module, _, attribute = _STUDIES[name].partition(":")
    kind: type[AbstractSeededStudy[Any]] = getattr(import_module(f"samirage.lab.studies.{module}"), attribute)
    return kind


def create(
    names: Sequence[str], scale: str, overrides: Mapping[str, Any], *, data_dir: str | None = None
) -> "list[AbstractStudy]":
    """Return the studies of these names, configured.

    Args:
        names: Their names; none means all.
        scale: `"smoke"`, `"laptop"` or `"paper"`.
        overrides: Settings that differ from the scale's own.
        data_dir: Folder of the data sets, where they are not the ones in the package.

    Returns:
        One study per name, in the order given. Where none is named, a study whose data are not to be had is left out,
        which is said on stderr.

    Raises:
        UserError: If a name is unknown, or a study cannot be configured so.

    Example:
        >>> create(["unknown"], "smoke", {})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        samirage.errors.UserError: unknown study 'unknown': the studies are mnist, ...
    """
    kinds = {name: study_type(name) for name in names or _STUDIES}
    studies: list[AbstractStudy] = []
    for name, kind in kinds.items():
        try:
            study = kind.create(scale, overrides, data_dir)
            study.prepare()
            studies.append(study)
        except UserError as error:
            if names or name not in _NEEDS_DATA:
                raise
            print(f"samirage: study {name} is left out: {error}", file=sys.stderr)
    return studies
