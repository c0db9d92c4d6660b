"""Landscapes: analytic functions with known critical points, and the loss of a network as a function of one vector.

All speak the protocol `Smooth`, which is what `samirage.points` works on.
"""

from samirage.landscape.analytic import AbstractFormula, AbstractFunction, AbstractLeastSquares, Scalar
from samirage.landscape.custom import SymPyFunction, TorchFunction
from samirage.landscape.functions import BumpOnBowl, DoubleWell, Moat, MultiWell, Quadratic, Ring
from samirage.landscape.objective import Objective
from samirage.landscape.smooth import Linearized, Smooth, sam_jacobian
from samirage.landscape.tanh_network import TanhNetwork

__all__ = [
    "AbstractFormula",
    "AbstractFunction",
    "AbstractLeastSquares",
    "BumpOnBowl",
    "DoubleWell",
    "Linearized",
    "Moat",
    "MultiWell",
    "Objective",
    "Quadratic",
    "Ring",
    "Scalar",
    "Smooth",
    "SymPyFunction",
    "TanhNetwork",
    "TorchFunction",
    "sam_jacobian",
]
