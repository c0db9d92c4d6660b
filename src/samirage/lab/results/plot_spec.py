"""How the results of a comparison are to be read: its question, what is drawn against what, and what was found.

A study knows this, and the page must not load the study, which needs torch. So it is plain data, stored with the
results.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

Scale = Literal["linear", "log", "names"]


@dataclass(frozen=True)
class Measure:
    """A number that every seed has.

    Attributes:
        name: Its variable in the data sets.
        label: What it is, with its unit.
        factor: What the stored values are multiplied by, such as 100 for percent.
        scale: `"linear"` or `"log"`.
        full: Whether the axis shows all of 0 … 1, times the factor, as for a share.

    Raises:
        TypeError: If a value has the wrong type.
    """

    name: str
    label: str
    factor: float = 1.0
    scale: Scale = "linear"
    full: bool = False

    def __post_init__(self) -> None:
        legal = {"name": (str,), "label": (str,), "scale": (str,), "factor": (int, float), "full": (bool,)}
        for name, kinds in legal.items():
            value = getattr(self, name)
            if type(value) not in kinds:
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"{name} of a measure must be of type {wanted}; got {value!r}")


ACCURACY = Measure("final_test_accuracy", "Test accuracy (%)", factor=100.0, full=True)
HALLUCINATED = Measure("hallucinated", "At hallucinated points (%)", factor=100.0, full=True)
SHIFT_RATIO = Measure("final_shift_ratio", "Shift ratio ‖g⁺‖/‖g‖", scale="log")
GRAD_NORM = Measure("final_grad_norm", "Gradient norm ‖g‖", scale="log")


@dataclass(frozen=True)
class PlotSpec:
    """How to read the results of a comparison.

    Every cell of such a study has the attributes `panel`, `method` and `x`: its panel, its line, and its place on the
    axis; and the measures as variables with the dimension `seed`.

    Attributes:
        title: Heading of its section.
        question: What it asks, in one or two plain sentences.
        axis: What `x` is, with its unit.
        scale: Scale of that axis; `"names"` puts the values of `x` side by side, in the order of the cells.
        measures: What is drawn, each in a row of panels; the first is the one of the tables.
        labels: Names for people, of those methods that the page does not know.
        findings: What the results mean; every number in it is computed from them.
        caption: What else must be known to read the figure.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a scale is unknown, or there is no measure.

    Example:
        >>> reading = PlotSpec("Batch", "Does noise help?", "Batch size", "log", (ACCURACY,))
        >>> PlotSpec.from_dict(reading.to_dict()) == reading
        True
    """

    title: str
    question: str
    axis: str
    scale: Scale
    measures: tuple[Measure, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        texts = {name: getattr(self, name) for name in ("title", "question", "axis", "scale", "caption")}
        texts |= {f"finding {i}": finding for i, finding in enumerate(self.findings, 1)}
        texts |= {f"the label of {method}": label for method, label in self.labels.items()}
        wrong = [name for name, text in texts.items() if not isinstance(text, str)]
        if wrong:
            raise TypeError(f"{wrong[0]} must be a text; got {texts[wrong[0]]!r}")
        unknown = [s for s in (self.scale, *(m.scale for m in self.measures)) if s not in get_args(Scale)]
        if unknown or not self.measures:
            raise ValueError(f"a reading needs measures and scales of {', '.join(get_args(Scale))}; got {unknown}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON; `from_dict` reads it back."""
        return {**asdict(self), "labels": dict(self.labels)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read it back.

        Args:
            plain: What `to_dict` returned.

        Raises:
            TypeError: If a key is missing or unknown, or a value has the wrong type.
            ValueError: If a value cannot be used.
        """
        measures, findings, labels = (plain.get(name) for name in ("measures", "findings", "labels"))
        if not isinstance(measures, list | tuple) or not isinstance(findings, list | tuple):
            raise TypeError("measures and findings must be lists")
        if not isinstance(labels, Mapping):
            raise TypeError("labels must be an object of texts")
        return cls(**{**plain, "measures": tuple(Measure(**one) for one in measures), "findings": tuple(findings)})
