"""Methods of training by name: which is recommended. Needs no torch."""

from typing import Final

RECOMMENDED: Final = "guard+decay"
"""The method of study `guard` that its claims are about."""
