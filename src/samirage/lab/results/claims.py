"""A claim: what the paper (or we) say, what was measured, and a verdict that is computed and never written by hand."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from samirage.lab.results.statistics import mean_estimate, share_estimate

NOTHING: Final = "nothing was measured"
SINGLE: Final = "a single value has no spread"
EXTREME: Final = "the value is an extreme, not a mean"
DETERMINISTIC: Final = "the value is computed once and no chance is in it"


class Relation(StrEnum):
    """How the measured value must stand to the expected one."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    EQUAL_WITHIN = "equal within"


class Verdict(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim with the number that supports or refutes it.

    With the measured value `m`, the expected value `v` and the tolerance `t`, the claim holds when `m >= v - t`
    ("at least"), `m <= v + t` ("at most") or `|m - v| <= t` ("equal within").

    Attributes:
        statement: The claim in one plain sentence.
        source: Figure, table or theorem that makes it ("Figure 4"), or "ours".
        relation: How measured and expected value must stand.
        expected: `v`, finite.
        measured: `m`; NaN when there is no number, which supports nothing.
        standard_error: Standard error of `m`, in its unit; NaN when there is none. Shown; it does not soften the
            verdict.
        n: Number of seeds (or points, …) behind `m`. With n = 0 nothing was measured.
        command: The command that computes it.
        tolerance: `t`, finite, 0 or more.
        unit: Unit of `m`, `v` and `t` as it is printed ("%"); empty for pure numbers.
        comparable: Whether scale and data allow a comparison with the source at all.
        reason: Why not, when they do not.
        no_error: Why there is no standard error, when there is none: `m` is an extreme, say, and not a mean.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of its range, or a reason is missing.

    Example:
        >>> claim = Claim(statement="SAM alone collapses at rho = 10", source="Figure 4", relation=Relation.AT_LEAST,
        ...     expected=0.9, measured=1.0, standard_error=0.0, n=16, command="samirage reproduce mnist")
        >>> claim.verdict
        <Verdict.HOLDS: 'holds'>
    """

    statement: str
    source: str
    relation: Relation
    expected: float
    measured: float
    standard_error: float
    n: int
    command: str
    tolerance: float = 0.0
    unit: str = ""
    comparable: bool = True
    reason: str = ""
    no_error: str = ""

    def __post_init__(self) -> None:
        for name in ("statement", "source", "command", "unit", "reason", "no_error"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string; got {getattr(self, name)!r}")
        for name in ("statement", "source", "command"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must not be empty")
        try:
            object.__setattr__(self, "relation", Relation(self.relation))
        except ValueError:
            legal = ", ".join(repr(r.value) for r in Relation)
            raise ValueError(f"relation must be one of {legal}; got {self.relation!r}") from None
        for name in ("expected", "measured", "standard_error", "tolerance"):
            value = getattr(self, name)
            try:
                if isinstance(value, bool | str):
                    raise TypeError
                # Also turns NumPy scalars into floats, which JSON can store.
                object.__setattr__(self, name, float(value))
            except (OverflowError, TypeError):
                raise TypeError(f"{name} must be a number; got {value!r}") from None
        if not math.isfinite(self.expected):
            raise ValueError(f"expected must be finite; got {self.expected}")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0.0):
            raise ValueError(f"tolerance must be finite and at least 0; got {self.tolerance}")
        if self.standard_error < 0.0:
            raise ValueError(f"standard_error must be at least 0, or NaN when it is unknown; got {self.standard_error}")
        if isinstance(self.n, bool) or not hasattr(self.n, "__index__") or self.n < 0:
            raise ValueError(f"n must be an integer of at least 0; got {self.n!r}")
        object.__setattr__(self, "n", int(self.n))
        if not isinstance(self.comparable, bool | np.bool_):
            raise TypeError(f"comparable must be true or false; got {self.comparable!r}")
        object.__setattr__(self, "comparable", bool(self.comparable))
        if not self.comparable and not self.reason.strip():
            raise ValueError("reason must say why the claim is not comparable")
        if not math.isnan(self.standard_error) and self.no_error:
            raise ValueError(f"no_error is for a claim without a standard error; got one of {self.standard_error}")
        if math.isnan(self.standard_error) and not self.no_error.strip():
            object.__setattr__(self, "no_error", "unknown" if self.n else NOTHING)

    @property
    def verdict(self) -> Verdict:
        """The verdict, computed. A NaN from seeds that did run supports nothing, so the claim fails."""
        if not self.comparable or self.n == 0:
            return Verdict.NOT_COMPARABLE
        low = self.measured >= self.expected - self.tolerance
        high = self.measured <= self.expected + self.tolerance
        needed = {Relation.AT_LEAST: low, Relation.AT_MOST: high, Relation.EQUAL_WITHIN: low and high}
        return Verdict.HOLDS if needed[self.relation] else Verdict.FAILS

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary that strict JSON can store: NaN becomes null, infinities become strings.

        The verdict is included.

        Returns:
            The dictionary; `from_dict` reads it back.
        """
        plain = {key: _to_json(value) for key, value in asdict(self).items()}
        return {**plain, "relation": self.relation.value, "verdict": self.verdict.value}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read a claim back. A stored verdict is ignored: verdicts are computed.

        Args:
            plain: A dictionary as `to_dict` makes it.

        Returns:
            The claim.

        Raises:
            ValueError: If a key is missing or unknown, or a value is out of its range.

        Example:
            >>> claim = Claim(statement="s", source="ours", relation=Relation.AT_MOST, expected=0.5,
            ...     measured=0.4, standard_error=float("nan"), n=1, command="samirage reproduce mnist")
            >>> Claim.from_dict(claim.to_dict()).measured
            0.4
        """
        known = {field.name for field in fields(cls)}
        given = set(plain) - {"verdict"}
        required = known - {"tolerance", "unit", "comparable", "reason", "no_error"}
        if given - known or required - given:
            wrong = "; ".join(
                f"{label}: {', '.join(sorted(names))}"
                for label, names in (("unknown keys", given - known), ("missing keys", required - given))
                if names
            )
            raise ValueError(f"a claim has the keys {', '.join(sorted(known))}; {wrong}")
        return cls(**{key: _from_json(key, plain[key]) for key in given})


def mean_claim(
    statement: str,
    relation: Relation,
    expected: float,
    values: ArrayLike,
    command: str,
    *,
    source: str = "ours",
    tolerance: float = 0.0,
) -> Claim:
    """Return a claim on the mean of values.

    Args:
        statement: The claim in one plain sentence.
        relation: How the mean must stand to the expected value.
        expected: The expected value.
        values: One for each seed; none where nothing has been measured.
        command: The command that made them.
        source: Who says so.
        tolerance: See `Claim`.

    Returns:
        The claim, with the standard error of the mean.

    Example:
        >>> claim = mean_claim("s", Relation.AT_LEAST, 0.5, [1.0, 0.5], "samirage reproduce mnist")
        >>> claim.measured, claim.standard_error, claim.n
        (0.75, 0.25, 2)
    """
    estimate = mean_estimate(values)
    return Claim(
        statement=statement,
        source=source,
        relation=relation,
        expected=expected,
        measured=estimate.mean,
        standard_error=estimate.standard_error,
        n=estimate.n,
        command=command,
        tolerance=tolerance,
        no_error=SINGLE if estimate.n == 1 else "",
    )


def share_claim(
    statement: str, relation: Relation, expected: float, flags: ArrayLike, command: str, *, source: str = "ours"
) -> Claim:
    """Return a claim on the share of flags that are true.

    Args:
        statement: The claim in one plain sentence.
        relation: How the share must stand to the expected value.
        expected: The expected share.
        flags: One for each seed; none where nothing has been measured.
        command: The command that made them.
        source: Who says so.

    Returns:
        The claim, with the standard error of a binomial share, `sqrt(p (1 - p) / n)`.

    Example:
        >>> claim = share_claim("s", Relation.AT_MOST, 0.0, [True, False], "samirage reproduce mnist")
        >>> claim.measured, round(claim.standard_error, 4), claim.n
        (0.5, 0.3536, 2)
    """
    estimate = share_estimate(flags)
    return Claim(
        statement=statement,
        source=source,
        relation=relation,
        expected=expected,
        measured=estimate.share,
        standard_error=math.sqrt(estimate.share * (1 - estimate.share) / estimate.n) if estimate.n else math.nan,
        n=estimate.n,
        command=command,
    )


_WORDS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # older files have "nan" where there is now null


def _to_json(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _from_json(key: str, value: Any) -> Any:
    if key in {"measured", "standard_error"}:
        if value is None:
            return math.nan
        if isinstance(value, str):
            if value not in _WORDS:
                raise ValueError(f"{key} must be a number, null, 'inf' or '-inf'; got {value!r}")
            return _WORDS[value]
    return value
