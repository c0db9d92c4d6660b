"""The names of the studies, for those who must not wait for torch."""

from typing import Final

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
)
