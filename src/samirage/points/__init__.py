"""Hallucinated points: find them, follow them as the radius varies, prove that they exist.

All take any `samirage.landscape.Smooth`: an analytic function, or the loss of a network. Proofs need a formula.
"""

from samirage.points.certificates.certificate import Certificate
from samirage.points.certificates.certify import certify
from samirage.points.find.basins import Basins, End, basins
from samirage.points.find.branch import Branch, BranchEvent, Event, branch
from samirage.points.find.evidence import HallucinatedPoint
from samirage.points.find.find import HallucinatedPoints, find_hallucinated
from samirage.points.find.orbits import Orbit, find_orbits, polish_orbit
from samirage.points.find.radius import RadiusInterval, radius_interval
from samirage.points.polish import Polished, polish
from samirage.points.proofs.check import Check, check_record
from samirage.points.proofs.named import BUILT_IN, built_in_function, make_function, own_function
from samirage.points.proofs.proof import Proof
from samirage.points.proofs.prove import prove
from samirage.points.proofs.record import Attraction, Theorem

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
    "Theorem",
    "basins",
    "branch",
    "built_in_function",
    "certify",
    "check_record",
    "find_hallucinated",
    "find_orbits",
    "make_function",
    "own_function",
    "polish",
    "polish_orbit",
    "prove",
    "radius_interval",
]
