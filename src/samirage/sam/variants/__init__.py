"""The variants of SAM, one a file; `variant=…` takes the name of one, or an object, the user's own too.

| variant | perturbation `e` | direction `d` | source |
|---|---|---|---|
| `"sam"` | `rho·g/‖g‖` | `g⁺` | Foret et al., arXiv 2010.01412 |
| `"asam"`, `ASAM` | `rho·T²∘g/‖T∘g‖`, `T = x`, or `T = |x| + eta` | `g⁺` | Kwon et al., arXiv 2102.11600 |
| `"unnormalized"` | `rho·g` | `g⁺` | Andriushchenko and Flammarion, arXiv 2206.06232 |
| `GSAM` | `rho·g/‖g‖` | `g⁺ − alpha·g_⊥` | Zhuang et al., arXiv 2203.08065 |
| `LookSAM` | `rho·g/‖g‖` in one of k steps | `g⁺`, then `g` and a share of `g_v` | Liu et al., arXiv 2203.02714 |
| `FriendlySAM` | `rho·v/‖v‖`, `v = g − sigma·m`, `m` an average of `g` | `g⁺` | Li et al., arXiv 2403.12350 |

The norm is one norm over all tensors. A zero gradient gives `e = 0`. A gradient that holds an infinity or a NaN
has no direction: `e` is then NaN throughout, never a silent plain step, and the caller decides what to do.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from samirage.sam.variants.asam import ASAM
from samirage.sam.variants.base import AbstractMultiple, AbstractVariant, Rho, State, checked_result, radial
from samirage.sam.variants.friendly import FriendlySAM
from samirage.sam.variants.gsam import GSAM
from samirage.sam.variants.looksam import LookSAM
from samirage.sam.variants.sam import PlainSAM
from samirage.sam.variants.unnormalized import Unnormalized

Variant = Literal["sam", "asam", "unnormalized"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)
VariantOptions = AbstractVariant
"""What version 0.1.0 called an `AbstractVariant`."""

_NAMED: Final[Mapping[Variant, AbstractVariant]] = {
    "sam": PlainSAM(),
    "asam": ASAM(eta=0.0, biases=True),
    "unnormalized": Unnormalized(),
}


def variant_of(variant: Variant | AbstractVariant) -> AbstractVariant:
    """Return the variant of a name; an object is returned as it is.

    Args:
        variant: `"sam"`, `"asam"`, `"unnormalized"`, or an instance of an `AbstractVariant`.

    Returns:
        The variant.

    Raises:
        ValueError: If there is no such variant.

    Example:
        >>> variant_of("asam"), variant_of(GSAM(alpha=0.2))
        (ASAM(eta=0.0, biases=True), GSAM(alpha=0.2))
    """
    if isinstance(variant, AbstractVariant):
        return variant
    if isinstance(variant, str) and variant in _NAMED:
        return _NAMED[variant]
    given = f"the class {variant.__name__}" if isinstance(variant, type) else repr(variant)
    raise ValueError(
        f"variant must be one of {', '.join(map(repr, VARIANTS))}, or an instance of an AbstractVariant such as ASAM, "
        f"GSAM or LookSAM; got {given}"
    )


def variant_of_map(variant: Variant | AbstractVariant) -> AbstractVariant:
    """Return the variant, if its steps are a map of the point alone; see `samirage.sam.sam_map`.

    Args:
        variant: A name or an object.

    Returns:
        The variant.

    Raises:
        ValueError: If there is no such variant, or it depends on more than the point.

    Example:
        >>> variant_of_map("sam")
        PlainSAM()
    """
    found = variant_of(variant)
    refusal = found.refuses("map")
    if refusal is not None:
        raise ValueError(refusal)
    return found


def perturbation_of(variant: Variant | AbstractVariant) -> Variant:
    """Return the name of the rule by which a variant perturbs.

    Args:
        variant: A name, or an object.

    Returns:
        `"sam"`, `"asam"` or `"unnormalized"`.

    Raises:
        ValueError: If there is no such variant, or its rule has no name.

    Example:
        >>> perturbation_of("unnormalized"), perturbation_of(ASAM(eta=0.1)), perturbation_of(GSAM())
        ('unnormalized', 'asam', 'sam')
    """
    found = variant_of(variant)
    for name, kinds in _RULES.items():
        if isinstance(found, kinds):
            return name
    raise ValueError(f"{found!r} has a perturbation of its own, which has no name: ask its method perturbation()")


_RULES: Final[Mapping[Variant, tuple[type, ...]]] = {
    "sam": (PlainSAM, GSAM, LookSAM),
    "asam": (ASAM,),
    "unnormalized": (Unnormalized,),
}

__all__ = [
    "ASAM",
    "GSAM",
    "VARIANTS",
    "AbstractMultiple",
    "AbstractVariant",
    "FriendlySAM",
    "LookSAM",
    "PlainSAM",
    "Rho",
    "State",
    "Unnormalized",
    "Variant",
    "VariantOptions",
    "checked_result",
    "perturbation_of",
    "radial",
    "variant_of",
    "variant_of_map",
]
