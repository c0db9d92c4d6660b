"""Hallucinated points: find them, follow them as the radius varies, prove that they exist.

All take any `samirage.landscape.Smooth`: an analytic function, or the loss of a network. Proofs need a formula.
"""

from samirage.points.basins import Basins, End, basins
from samirage.points.branch import Branch, BranchEvent, Event, branch
from samirage.points.certificate import Certificate
from samirage.points.certify import certify
from samirage.points.check import Check, check_record
from samirage.points.evidence import HallucinatedPoint
from samirage.points.find import HallucinatedPoints, find_hallucinated
from samirage.points.named import BUILT_IN, make_function
from samirage.points.orbits import Orbit, find_orbits, polish_orbit
from samirage.points.polish import Polished, polish
from samirage.points.proof import Attraction, Proof
from samirage.points.prove import prove
from samirage.points.radius import RadiusInterval, radius_interval

__all__ = [
    "BUILT_IN",
    "Attraction",
    "Basins",
    "Branch",
    "BranchEvent",
    "Certificate",
    "Check",
    "End",
    "Event",
    "HallucinatedPoint",
    "HallucinatedPoints",
    "Orbit",
    "Polished",
    "Proof",
    "RadiusInterval",
    "basins",
    "branch",
    "certify",
    "check_record",
    "find_hallucinated",
    "find_orbits",
    "make_function",
    "polish",
    "polish_orbit",
    "prove",
    "radius_interval",
]
