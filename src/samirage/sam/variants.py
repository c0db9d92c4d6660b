"""The variants by name and by options: what `SAM(…, variant=…)` accepts, and which perturbation each of them has."""

from samirage.sam.asam import ASAM
from samirage.sam.gsam import GSAM
from samirage.sam.looksam import LookSAM
from samirage.sam.perturbation import VARIANTS, Variant

VariantOptions = ASAM | GSAM | LookSAM


def perturbation_of(variant: Variant | VariantOptions) -> Variant:
    """Return the rule by which a variant perturbs; see `samirage.sam.perturb`.

    Args:
        variant: A name, or an instance of a variant with options.

    Returns:
        The name of the rule.

    Raises:
        ValueError: If there is no such variant.

    Example:
        >>> perturbation_of("unnormalized"), perturbation_of(ASAM(eta=0.1)), perturbation_of(GSAM())
        ('unnormalized', 'asam', 'sam')
    """
    if isinstance(variant, VariantOptions):
        return variant.rule
    if variant in VARIANTS:
        return variant
    given = f"the class {variant.__name__}" if isinstance(variant, type) else repr(variant)
    raise ValueError(
        f"variant must be one of {', '.join(map(repr, VARIANTS))}, or an instance of ASAM, GSAM or LookSAM; got {given}"
    )
