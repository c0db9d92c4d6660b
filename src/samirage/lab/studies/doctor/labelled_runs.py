"""Runs whose class is known by construction, against which a diagnosis can be held.

The analytic ones follow from closed forms (the bounce of a quadratic and the saddle trap, the regimes of the ring, the
window of the double well), so that their end is known before they are run. The networks are known by what was done to
them: a radius at which SAM freezes on a bounded loss, or a radius and a learning rate at which all trains well.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from samirage.lab.engine.ensemble import Recipe
from samirage.lab.results.constants import SWITCH_FRACTION
from samirage.landscape import DoubleWell, Quadratic, Ring, Smooth, TorchFunction
from samirage.sam import Guard, Status, WarmStart

Starts = Callable[[torch.Generator], Tensor]
"""Draws one start, shape (d,), float64."""


@dataclass(frozen=True)
class Labelled:
    """A run whose class is known.

    Attributes:
        name: Its name; names the cell.
        truth: Its class at the end.
        reason: Why the class is known, in one sentence.
        recipe: How it is trained.
        window: Steps of the monitor's window.
        at_rest: Whether the run comes to rest where the free figures cannot tell its class from another: extra passes
            must.
    """

    name: str
    truth: Status
    reason: str
    recipe: Recipe
    window: int
    at_rest: bool = False


@dataclass(frozen=True)
class LabelledPoint(Labelled):
    """A labelled run of a point on an analytic function.

    Attributes:
        function: The function.
        starts: Draws the start of a seed.
        noise: Standard deviation of each example's gradient noise; see `samirage.lab.engine.functions.Particles`.
    """

    function: Smooth = field(default_factory=Ring)
    starts: Starts = lambda generator: _normal(0.8)(generator)
    noise: float = 0.0

    def points(self, seeds: Sequence[int]) -> Tensor:
        """Return the starts, shape (S, d).

        Args:
            seeds: One for each start.
        """
        return torch.stack([self.starts(torch.Generator().manual_seed(seed)) for seed in seeds])


@dataclass(frozen=True)
class LabelledNetwork(Labelled):
    """A labelled run of a network on handwritten digits; see `samirage.lab.tasks.mnist.Digits`.

    Attributes:
        loss: Name of its loss.
        hidden: Width of the hidden layer.
    """

    loss: str = "softmax-squared"
    hidden: int = 32


def _normal(scale: float, dim: int = 2) -> Starts:
    return lambda generator: scale * torch.randn(dim, generator=generator, dtype=torch.float64)


def _shell(low: float, high: float) -> Starts:
    """Uniform in angle and in distance from the origin."""

    def start(generator: torch.Generator) -> Tensor:
        turn, along = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        distance, angle = low + (high - low) * along, 2 * math.pi * turn
        return torch.tensor([distance * math.cos(angle), distance * math.sin(angle)], dtype=torch.float64)

    return start


def _near(points: Sequence[Tensor], scale: float) -> Starts:
    """Close to one of several points of the plane, each as likely."""

    def start(generator: torch.Generator) -> Tensor:
        which = int(torch.randint(len(points), (1,), generator=generator))
        drawn: Tensor = points[which] + scale * torch.randn(2, generator=generator, dtype=torch.float64)
        return drawn

    return start


_WELL: Final = TorchFunction(lambda x: 1 - torch.exp(-x.square().sum() / 2), 2)
_TILTED_RING: Final = TorchFunction(lambda x: (x.square().sum() - 1) ** 2 / 4 + 0.05 * x[0], 2)


_MINIMA: Final = _near(DoubleWell().minimizers, 0.02)

POINTS: Final = (
    LabelledPoint(
        "ring-hallucinated", Status.HALLUCINATED_MINIMIZER,
        "For R < rho < 2R every start on the ring's plane ends at distance rho − R from its centre.",
        Recipe(steps=600, lr=0.05, rho=1.5), window=200,
    ),
    LabelledPoint(
        "ring-hallucinated-momentum", Status.HALLUCINATED_MINIMIZER,
        "Momentum does not move fixed points.",
        Recipe(steps=1000, lr=0.02, rho=1.5, momentum=0.9), window=200,
    ),
    LabelledPoint(
        "ring-small-radius", Status.BOUNCING_MINIMIZER,
        "For rho < R a start beyond the distance rho from the centre ends on the ring, on an orbit of period above 2.",
        Recipe(steps=800, lr=0.02, rho=0.5), window=200, starts=_shell(0.6, 1.5),
    ),
    LabelledPoint(
        "ring-large-radius", Status.BOUNCING_MINIMIZER,
        "For rho > 2R the orbits go about the ring, with a period above 2.",
        Recipe(steps=800, lr=0.01, rho=2.5), window=200,
    ),
    LabelledPoint(
        "ring-maximizer", Status.MAXIMIZER_TRAP,
        "For rho < R a start within the distance rho of the centre ends at the centre, the maximizer.",
        Recipe(steps=800, lr=0.02, rho=0.5), window=200, starts=_shell(0.1, 0.45),
    ),
    LabelledPoint(
        "ring-bounce", Status.HALLUCINATED_BOUNCE,
        "Beyond the largest stable learning rate, 1, the hallucinated points of the ring repel; the steps turn around.",
        Recipe(steps=800, lr=1.03, rho=1.5), window=200, starts=_shell(0.45, 0.55),
    ),
    LabelledPoint(
        "ring-drifting", Status.DRIFTING,
        "On its slow way from the ring of minimizers to the hallucinated points.",
        Recipe(steps=160, lr=0.002, rho=1.5), window=96, starts=_shell(0.97, 1.0),
    ),
    LabelledPoint(
        "double-well-inside", Status.HALLUCINATED_MINIMIZER,
        "For rho in (1.04, 2.06) SAM leaves the minima, and the only attractors are hallucinated.",
        Recipe(steps=800, lr=0.05, rho=1.5), window=200, function=DoubleWell(), starts=_MINIMA,
    ),
    LabelledPoint(
        "double-well-noise", Status.HALLUCINATED_MINIMIZER,
        "The same with gradient noise, in which the shifted gradient never quite vanishes.",
        Recipe(steps=1200, lr=0.05, rho=1.5, batch_size=16), window=400, function=DoubleWell(), starts=_MINIMA,
        noise=0.2,
    ),
    LabelledPoint(
        "double-well-outside", Status.BOUNCING_MINIMIZER,
        "Below the window of radii SAM stays about the minima.",
        Recipe(steps=800, lr=0.05, rho=0.3), window=200, function=DoubleWell(), starts=_MINIMA,
    ),
    LabelledPoint(
        "double-well-drifting", Status.DRIFTING,
        "On its slow way from a minimum to the hallucinated point.",
        Recipe(steps=100, lr=0.01, rho=1.5), window=64, function=DoubleWell(), starts=_MINIMA,
    ),
    LabelledPoint(
        "double-well-guarded", Status.BOUNCING_MINIMIZER,
        "With a guard no hallucinated point attracts; the run goes about a minimum.",
        Recipe(steps=1500, lr=0.05, rho=1.5, guard=Guard()), window=400, function=DoubleWell(), starts=_MINIMA,
    ),
    LabelledPoint(
        "double-well-unnormalized", Status.STATIONARY,
        "Unnormalized SAM with rho·L₋ < 1 hallucinates nowhere and converges.",
        Recipe(steps=1500, lr=0.05, rho=0.8, variant="unnormalized"), window=200, function=DoubleWell(),
        starts=_normal(0.8),
    ),
    LabelledPoint(
        "quadratic-bounce", Status.BOUNCING_MINIMIZER,
        "SAM ends in a 2-cycle along the top eigenvector of a convex quadratic.",
        Recipe(steps=600, lr=0.1, rho=0.3), window=200, function=Quadratic([4.0, 1.0, 0.25]), starts=_normal(1.0, 3),
    ),
    LabelledPoint(
        "quadratic-noise", Status.BOUNCING_MINIMIZER,
        "The same with gradient noise.",
        Recipe(steps=1200, lr=0.1, rho=0.3, batch_size=16), window=400, function=Quadratic([4.0, 1.0, 0.25]),
        starts=_normal(1.0, 3), noise=0.1,
    ),
    LabelledPoint(
        "quadratic-progress", Status.PROGRESSING,
        "Down a long valley, far from its bottom.",
        Recipe(steps=200, lr=0.05, rho=0.05), window=96, function=Quadratic([1.0, 0.1, 0.01]), starts=_normal(5.0, 3),
    ),
    LabelledPoint(
        "quadratic-diverged", Status.DIVERGED,
        "The learning rate is far beyond 2 over the curvature.",
        Recipe(steps=800, lr=1.0, rho=0.1), window=200, function=Quadratic([4.0, 1.0]), starts=_normal(1.0),
    ),
    LabelledPoint(
        "saddle-slow", Status.SADDLE_TRAP,
        "The negative curvature is just above the closed form's threshold, eta·λ²/(2 − eta·λ): SAM is still drawn in.",
        Recipe(steps=600, lr=0.1, rho=0.2), window=200, function=Quadratic([3.0, -0.6]), starts=_normal(0.03),
    ),
    LabelledPoint(
        "saddle-noise", Status.SADDLE_TRAP,
        "Above the threshold, with gradient noise.",
        Recipe(steps=1200, lr=0.1, rho=0.2, batch_size=16), window=400, function=Quadratic([3.0, -0.8]),
        starts=_normal(0.03), noise=0.04,
    ),
    LabelledPoint(
        "saddle-at-rest", Status.SADDLE_TRAP,
        "Far above the threshold: nothing moves along the negative curvature any more.",
        Recipe(steps=600, lr=0.1, rho=0.2), window=200, at_rest=True, function=Quadratic([3.0, -2.0]),
        starts=_normal(0.03),
    ),
    LabelledPoint(
        "plateau", Status.HALLUCINATED_PLATEAU,
        "From inside a well, SAM looks out to the flat land around it.",
        Recipe(steps=400, lr=0.1, rho=6.0), window=200, function=_WELL, starts=_shell(0.3, 1.0),
    ),
    LabelledPoint(
        "tilted-ring", Status.HALLUCINATED_SADDLE,
        "The ring has one minimizer and one saddle now, and x⁺, beyond the centre of curvature, goes to the saddle.",
        Recipe(steps=3000, lr=0.05, rho=1.5), window=200, at_rest=True, function=_TILTED_RING,
    ),
)  # fmt: skip


def networks(steps: int) -> tuple[LabelledNetwork, ...]:
    """Return the labelled networks.

    Args:
        steps: Steps of each run (twice as many where a small network shall reach the floor of its noise).
    """
    window = max(32, steps // 4)
    freezes = "On a bounded loss, SAM with so large a radius looks out to where all outputs are saturated."
    trains = "The radius and the learning rate are those at which all goes well, and the loss still falls."

    def network(
        name: str, truth: Status, reason: str, loss: str, *, hidden: int = 32, factor: int = 1, **recipe: object
    ) -> LabelledNetwork:
        how = Recipe(steps=factor * steps, **recipe)  # type: ignore[arg-type]
        return LabelledNetwork(name, truth, reason, how, factor * window, loss=loss, hidden=hidden)

    plateau, bounce = Status.HALLUCINATED_PLATEAU, Status.HALLUCINATED_BOUNCE
    return (
        network("softmax-plateau", plateau, freezes, "softmax-squared", lr=1.0, rho=10.0),
        network("softmax-plateau-batch", plateau, freezes, "softmax-squared", lr=1.0, rho=10.0, batch_size=64),
        network("tanh-plateau", plateau, freezes, "tanh-squared", lr=0.1, rho=10.0),
        network(
            "softmax-switched", plateau, "Plain steps first, then the same: the remedy comes too late for this radius.",
            "softmax-squared", lr=1.0, rho=10.0, warm_start=WarmStart(fraction=SWITCH_FRACTION, total_steps=steps),
        ),
        network(
            "entropy-bounce", bounce,
            "On an unbounded loss the shifted gradients are large and turn around; the slope of the loss goes unused.",
            "cross-entropy", lr=0.5, rho=10.0,
        ),
        network("softmax-healthy", Status.PROGRESSING, trains, "softmax-squared", lr=1.0, rho=0.1),
        network("entropy-healthy", Status.PROGRESSING, trains, "cross-entropy", lr=0.5, rho=0.1),
        network("entropy-batch-0.05", Status.PROGRESSING, trains, "cross-entropy", lr=0.5, rho=0.05, batch_size=64),
        network("entropy-batch-0.1", Status.PROGRESSING, trains, "cross-entropy", lr=0.5, rho=0.1, batch_size=64),
        network(
            "entropy-momentum", Status.PROGRESSING, trains,
            "cross-entropy", lr=0.1, rho=0.1, batch_size=64, momentum=0.9,
        ),
        network(
            "softmax-guarded", Status.PROGRESSING, "The guard keeps the run on the slope of the loss.",
            "softmax-squared", lr=1.0, rho=10.0, guard=Guard(),
        ),
        network(
            "entropy-floor", Status.BOUNCING_MINIMIZER,
            "A network of three hidden units cannot learn more; the noise of batches of 16 keeps it about a minimum.",
            "cross-entropy", hidden=3, factor=2, lr=0.5, rho=0.1, batch_size=16,
        ),
    )  # fmt: skip
