"""The configuration of a study: what decides its numbers, as it is recorded with the results. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """All that decides the numbers of a study over consecutive seeds; a study adds what it has besides.

    A study's own class, too, is a frozen dataclass whose fields are given by name. They are recorded in the order in
    which it declares them, after the scale and before the others of this class; one of these that it declares again
    stands where it is declared.

    Attributes:
        scale: Preset that the values started from.
        seeds: Number of seeds.
        first_seed: The first of them; the others follow.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    seeds: int
    first_seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data for JSON.

        Example:
            >>> StudyConfig(scale="smoke", seeds=2).to_dict()
            {'scale': 'smoke', 'seeds': 2, 'first_seed': 0, 'device': 'cpu', 'threads': 1}
        """
        own = () if type(self) is StudyConfig else type(self).__annotations__
        names = dict.fromkeys(("scale", *own, *StudyConfig.__annotations__))
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], study: str) -> Self:
        """Return recorded settings.

        Args:
            config: What `to_dict` returned, after JSON. Entries that are no settings are left out.
            study: Name of the study, for the complaint.

        Raises:
            ValueError: If a setting is missing or has the wrong type.

        Example:
            >>> StudyConfig.from_dict({"scale": "smoke", "seeds": "two"}, "mnist")
            Traceback (most recent call last):
            ...
            ValueError: seeds in the configuration of study mnist must be of type int; got 'two'
        """
        hints = get_type_hints(cls)
        values = {}
        for setting in fields(cls):
            name = setting.name
            if name not in config:
                raise ValueError(f"the configuration of study {study} lacks {name}")
            values[name] = _typed(f"{name} in the configuration of study {study}", config[name], hints[name])
        return cls(**values)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return a value from JSON as the type that a setting has.

    Raises:
        ValueError: If it is none.
    """
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(name, one, get_args(hint)[0]) for one in value)
    legal = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if type(value) in legal or (float in legal and type(value) is int):
        return value
    wanted = " or ".join(getattr(one, "__name__", str(one)) for one in legal)
    raise ValueError(f"{name} must be of type {wanted}; got {value!r}")
