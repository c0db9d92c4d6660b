"""The studies, by name; each is loaded when it is asked for.

To add one, write it on the protocol of `samirage.lab.studies.base`, and add a line here.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from samirage.errors import UserError

if TYPE_CHECKING:  # the list of studies is needed without waiting for torch
    from samirage.lab.studies.base import AbstractSeededStudy, AbstractStudy

# Where the function is that makes a study of each name: scale, overrides of its settings, data folder → the study.
_STUDIES: Final[Mapping[str, str]] = {
    "mnist": "mnist:create",
    "guard": "guard:create",
    "alternatives": "alternatives:create",
    "wells": "wells:create",
    "doctor": "doctor.study:create",
    "points": "points.study:create",
    "toy": "toy:create",
    "construction": "construction:create",
    "network": "network:create",
    "evidence": "evidence:EvidenceStudy.create",
    "switch": "switch:SwitchStudy.create",
    "decay": "decay:DecayStudy.create",
    "noise": "noise:NoiseStudy.create",
    "variants": "variants:VariantsStudy.create",
    "batch": "batch:BatchStudy.create",
    "arch": "arch:ArchStudy.create",
    "prevalence": "prevalence:PrevalenceStudy.create",
    "small-rho": "small_rho:SmallRhoStudy.create",
    "cifar": "cifar:CifarStudy.create",
}
STUDIES: Final = tuple(_STUDIES)

# Studies whose data set is not in the package: where it is not to be had, "all studies" are all others.
_NEEDS_DATA: Final = ("cifar",)


def _maker(name: str) -> "Callable[[str, Mapping[str, Any], str | None], AbstractStudy]":
    module, _, attribute = _STUDIES[name].partition(":")
    make: Callable[[str, Mapping[str, Any], str | None], AbstractStudy]
    make = attrgetter(attribute)(import_module(f"samirage.lab.studies.{module}"))
    return make


def study_type(name: str) -> "type[AbstractSeededStudy[Any]]":
    """Return the class of a study, which can be made of a recorded configuration.

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
    make = _maker(name)
    kind: type[AbstractSeededStudy[Any]] = getattr(make, "__self__", None) or get_type_hints(make)["return"]
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
    for name in names:
        if name not in _STUDIES:
            raise UserError(f"unknown study {name!r}: the studies are {', '.join(_STUDIES)}")
    studies = []
    for name in dict.fromkeys(names or _STUDIES):
        try:
            study = _maker(name)(scale, overrides, data_dir)
            study.prepare()
            studies.append(study)
        except UserError as error:
            if names or name not in _NEEDS_DATA:
                raise
            print(f"samirage: study {name} is left out: {error}", file=sys.stderr)
    return studies
