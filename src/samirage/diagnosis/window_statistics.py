"""What a monitor remembers of a run, in the optimizer and in the ensemble engine alike: windows, one after another.

All of it stays on the device, and nothing is read from there: the figures are tensors until someone looks at them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor
from torch.linalg import vecdot

from samirage.diagnosis.sample import DEFAULT_SIZE, CoordinateSample
from samirage.sam import (
    CourseFigures,
    MotionFigures,
    MotionProducts,
    StepFigures,
    course_figures,
    dot,
    motion_figures,
)
from samirage.sam.medians import nanmedian
from samirage.sam.reductions import can_read_without_sync

EARLY_STEPS: Final = 20  # the first steps of a run, whose loss and gradient say what "high" and "small" mean


@dataclass(frozen=True)
class Window:
    """The figures of one window.

    Attributes:
        last_step: Number of its last step.
        steps: Number of its steps.
        course: Figures of the course; shape () or (S,).
        motion: Figures of the motion, same shape.
    """

    last_step: int
    steps: int
    course: CourseFigures
    motion: MotionFigures


class _Block:
    """Half a window: its step figures, and the vectors that the motion figures need."""

    def __init__(self) -> None:
        self.figures: list[StepFigures] = []
        self.followed: list[Tensor | None] = []  # None where no guard judges
        self.products: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.finite: list[Tensor] = []

    def add_vectors(self, grad: Tensor, direction: Tensor, before: tuple[Tensor, Tensor] | None) -> Tensor:
        """Add a step, and return `‖d‖²`; `before` is the direction of the step before with its square."""
        # In the vectors' own precision: the figures of a window are means over many of these.
        square: Tensor = vecdot(direction, direction)
        products = [vecdot(grad, grad), square, vecdot(grad, direction)]
        if before is None:
            products += [torch.full_like(square, torch.nan)] * 3
        else:
            products += [vecdot(direction, before[0]), vecdot(grad, before[0]), before[1]]
        self.products.append(torch.stack(products))
        # A step that the optimizer skips, because a gradient was not finite, must not spoil the sums.
        finite = products[2].isfinite()
        if not (can_read_without_sync(finite) and finite.all()):
            mask = finite.unsqueeze(-1)
            grad, direction = grad.where(mask, 0.0), direction.where(mask, 0.0)
        part = len(self.finite) % 4 // 2
        self.finite.append(finite)
        if not self.sums:
            self.sums = [torch.zeros_like(grad) for _ in range(4)]  # of g over sets A and B, then of d
        self.sums[part] += grad
        self.sums[2 + part] += direction
        return square

    def counts(self) -> Tensor:
        """Return how many steps the sums over A and over B hold; shape (2,) or (2, S)."""
        sets = [[f for i, f in enumerate(self.finite) if i % 4 // 2 == part] for part in range(2)]
        like = torch.zeros_like(self.finite[0], dtype=torch.float64)
        return torch.stack([sum(flags, like) for flags in sets])


class Watch:
    """Windows over a run, fed step by step; the steps are counted from the first that it sees.

    Args:
        window: Steps of a window, at least 16, rounded down to a multiple of 8. Figures are computed twice a window.
        sample: Most coordinates in which vectors are measured; see `CoordinateSample`.
        seed: Seed of their choice.
        batched: Whether the tensors have a leading dimension that counts members, to be kept apart.
        shards: Number of gradients at `x` that a step takes, whose mean counts.
        joined: Called with the inner products of a window, to add those of other ranks.

    Attributes:
        windows: The figures, twice a window.

    Example:
        >>> watch = Watch(window=16)
        >>> x = torch.tensor([4.0])
        >>> for _ in range(32):  # gradient descent on f = x²/2, which SAM with rho = 0.5 sees as steeper
        ...     watch.saw_gradient([x])
        ...     watch.saw_step([x + 0.5], StepFigures(loss=x[0] ** 2 / 2, loss_plus=(x[0] + 0.5) ** 2 / 2,
        ...         grad_norm=x[0], grad_plus_norm=x[0] + 0.5, shift_ratio=1 + 0.5 / x[0], ascent_gain=1 + 0.25 / x[0],
        ...         slope_plus=x[0] + 0.5, cosine=torch.tensor(1.0), radius=torch.tensor(0.5)))
        ...     x = x - 0.01 * (x + 0.5)
        >>> [window.last_step for window in watch.windows]
        [7, 15, 23, 31]
        >>> watch.now().motion.motion_coherence.item() > 0.99
        True
    """

    def __init__(
        self,
        *,
        window: int = 200,
        sample: int = DEFAULT_SIZE,
        seed: int = 0,
        batched: bool = False,
        shards: int = 1,
        joined: Callable[[MotionProducts], MotionProducts] = lambda products: products,
    ) -> None:
        self._half = window // 8 * 4  # a multiple of 4, so that the sets A and B of steps alternate through it
        self.window = 2 * self._half
        self.steps = 0
        self.windows: list[Window] = []
        self._sampling = (sample, seed, batched)
        self._shards = shards
        self._joined = joined
        self._early: list[StepFigures] = []
        self.restart()

    def restart(self, shares: Sequence[float] | None = None) -> None:
        """Forget the window in progress, as when the list of parameters has changed.

        Args:
            shares: See `CoordinateSample`.
        """
        self._sample: CoordinateSample | None = None
        self._shares = shares
        self._blocks = [_Block()]
        self._grads: list[Tensor] = []
        self._before: tuple[Tensor, Tensor] | None = None

    def sample(self, tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
        """Return the sampled coordinates of a vector.

        Args:
            tensors: One for each parameter, or None for zeros.
            like: Tensors with the shapes and the device of the parameters.
        """
        if self._sample is None:
            size, seed, batched = self._sampling
            self._sample = CoordinateSample(like, size=size, seed=seed, batched=batched, shares=self._shares)
        return self._sample(tensors)

    def spread(self, values: Sequence[float], like: Sequence[Tensor]) -> Tensor:
        """Return one number for each tensor, repeated for each of its sampled coordinates; shape (k,).

        Args:
            values: A number for each parameter.
            like: See `sample`.
        """
        self.sample(like, like)
        assert self._sample is not None
        return self._sample.spread(values)

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply the gradients of the step in progress, as by a loss scale that has become known."""
        self._grads = [grad * factor.to(grad) for grad in self._grads]

    def saw_gradient(self, grads: Sequence[Tensor]) -> None:
        """Take `g` of the step in progress; with shards of a batch, that of one shard.

        Args:
            grads: One for each parameter; only sampled coordinates are copied.
        """
        self.saw_sampled_gradient(self.sample(grads, grads))

    def saw_sampled_gradient(self, grad: Tensor) -> None:
        """Take `g` of the step in progress, sampled already."""
        # What a step that failed has left behind goes out again.
        self._grads = [*self._grads, grad][-self._shards :]

    def saw_step(self, direction: Sequence[Tensor], figures: StepFigures, *, followed: Tensor | None = None) -> None:
        """Take a step of two passes.

        Args:
            direction: What the step follows, one for each parameter.
            figures: Its figures; kept, not copied.
            followed: Whether the direction is `g⁺`, boolean, where a guard judges; copied.
        """
        self.saw_sampled_step(self.sample(direction, direction), figures, followed=followed)

    def saw_sampled_step(self, direction: Tensor, figures: StepFigures, *, followed: Tensor | None = None) -> None:
        """Take a step of two passes whose direction was sampled already."""
        if self._grads:
            grad = self._grads[0] if len(self._grads) == 1 else torch.stack(self._grads).mean(0)
            self._before = direction, self._blocks[-1].add_vectors(grad, direction, self._before)
        self._end_step(figures, followed)

    def saw_plain_step(self, figures: StepFigures) -> None:
        """Take a step of one pass, or one that was skipped.

        Args:
            figures: Its figures; kept, not copied.
        """
        self._before = None
        self._end_step(figures, None)

    def _end_step(self, figures: StepFigures, followed: Tensor | None) -> None:
        self._grads = []
        self.steps += 1
        self._blocks[-1].figures.append(figures)
        self._blocks[-1].followed.append(None if followed is None else followed.clone())
        if len(self._early) < EARLY_STEPS:
            self._early.append(figures)
        if len(self._blocks[-1].figures) >= self._half:
            self.windows.append(self.now())
            self._blocks = [self._blocks[-1], _Block()]

    def now(self) -> Window:
        """Return the figures of the last steps: at least half a window of them, if there have been so many.

        Under FSDP2 this adds numbers over the ranks: call it on all of them.

        Raises:
            ValueError: If there has been no step.
        """
        blocks = [block for block in self._blocks if block.figures]
        if not blocks:
            raise ValueError("the monitor has seen no step yet: train for some steps first")
        figures = [one for block in blocks for one in block.figures]
        judged = [one for block in blocks for one in block.followed]
        plain = torch.zeros_like(figures[0].loss, dtype=torch.bool)
        early = stacked(self._early)
        course = course_figures(
            stacked(figures),
            early_loss=nanmedian(early.loss),
            early_grad_norm=nanmedian(early.grad_norm),
            followed=None
            if all(one is None for one in judged)
            else torch.stack([plain if one is None else one for one in judged]),
        )
        return Window(self.steps - 1, len(figures), course, self._motion([b for b in blocks if b.products], course))

    def _motion(self, blocks: Sequence[_Block], course: CourseFigures) -> MotionFigures:
        if not blocks:
            missing = torch.full_like(course.loss, torch.nan)
            return MotionFigures(*[missing] * len(fields(MotionFigures)))
        sums = [torch.stack(parts).sum(0) for parts in zip(*(block.sums for block in blocks), strict=True)]
        batched = sums[0].dim() == 2
        gram = torch.stack([torch.stack([dot([a], [b], batched=batched) for b in sums]) for a in sums])
        finite = torch.stack([flags for block in blocks for flags in block.finite])
        steps = torch.stack([product for block in blocks for product in block.products]).to(gram.dtype)
        steps = steps.where(finite.unsqueeze(1), torch.nan)
        counts = torch.stack([block.counts() for block in blocks]).sum(0)
        products = MotionProducts(steps, gram, counts, torch.finfo(sums[0].dtype).eps)
        return motion_figures(self._joined(products))


def stacked(figures: Sequence[StepFigures]) -> StepFigures:
    """Stack the figures of steps: each becomes a tensor of shape (W,) or (W, S).

    Args:
        figures: At least one; fields that a subclass adds are left out.
    """
    names = [field.name for field in fields(StepFigures)]
    return StepFigures(**{name: torch.stack([getattr(one, name) for one in figures]) for name in names})
