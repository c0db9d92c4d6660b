"""Names that are needed without waiting for torch."""

from typing import Final

RECOMMENDED: Final = "guard+decay"  # the method of study guard that its claims are about

STUDIES: Final = (
    "mnist",
    "guard",
    "alternatives",
    "wells",
    "doctor",
    "points",
    "toy",
    "construction",
    "network",
    "evidence",
    "switch",
    "decay",
    "noise",
    "variants",
    "batch",
    "arch",
    "prevalence",
    "small-rho",
    "cifar",
)
