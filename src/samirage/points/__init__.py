"""Hallucinated points: find them, follow them as the radius varies, prove that they exist.

All functions take any `samirage.landscape.Smooth`: an analytic function, or the loss of a network.
"""

from samirage.points.branch import Branch, BranchEvent, Event, RadiusInterval, branch, radius_interval
from samirage.points.certificate import Certificate
from samirage.points.certify import certify
from samirage.points.evidence import HallucinatedPoint
from samirage.points.find import HallucinatedPoints, find_hallucinated

__all__ = [
    "Branch",
    "BranchEvent",
    "Certificate",
    "Event",
    "HallucinatedPoint",
    "HallucinatedPoints",
    "RadiusInterval",
    "branch",
    "certify",
    "find_hallucinated",
    "radius_interval",
]
