"""Landscapes: analytic functions with known critical points, the loss of a network as a function of one vector, slices.

All speak the protocol `Smooth`, which is what `samirage.points` works on.
"""

from samirage.landscape.analytic import AbstractFormula, AbstractFunction, AbstractLeastSquares, Scalar
from samirage.landscape.custom import SymPyFunction, TorchFunction
from samirage.landscape.directions import ascent_line, gradient_plane, random_plane
from samirage.landscape.functions import BumpOnBowl, DoubleWell, Moat, MultiWell, Quadratic, Ring
from samirage.landscape.marks import Mark
from samirage.landscape.objective import Objective
from samirage.landscape.planes import Line, Plane, line, plane, trajectory_plane
from samirage.landscape.slices import scan
from samirage.landscape.smooth import Linearized, Smooth, sam_jacobian
from samirage.landscape.tanh_network import TanhNetwork

__all__ = [
    "AbstractFormula",
    "AbstractFunction",
    "AbstractLeastSquares",
    "BumpOnBowl",
    "DoubleWell",
    "Line",
    "Linearized",
    "Mark",
    "Moat",
    "MultiWell",
    "Objective",
    "Plane",
    "Quadratic",
    "Ring",
    "Scalar",
    "Smooth",
    "SymPyFunction",
    "TanhNetwork",
    "TorchFunction",
    "ascent_line",
    "gradient_plane",
    "line",
    "plane",
    "random_plane",
    "sam_jacobian",
    "scan",
    "trajectory_plane",
]
