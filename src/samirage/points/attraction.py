"""Whether a point attracts SAM, decided from eigenvalues of `M` that are known up to residuals."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.points.spectrum import Spectrum
from samirage.sam import max_stable_lr, multipliers


@dataclass(frozen=True)
class Verdict:
    """The verdict.

    Attributes:
        attracts: Whether steps at the learning rate come back; None if undecided.
        max_stable_lr: Learning rate below which they do; 0 where none does, None if undecided.
        contraction: Largest `|z|` of the multipliers of one step, zero modes left out; None without a learning rate.
        zero_modes: Number of eigenvalues that count as 0.
        residual: Largest residual, relative to the largest eigenvalue.
        reason: Why it is undecided; empty if it is not.
    """

    attracts: bool | None
    max_stable_lr: float | None
    contraction: float | None
    zero_modes: int
    residual: float
    reason: str


def decide(
    mu: Spectrum, *, lr: float | None, momentum: float, tolerance: float, is_manifold: Callable[[], bool]
) -> Verdict:
    """Decide on attraction: all `mu` but zero modes must lie right of 0, and the learning rate below their bounds.

    Zero modes may be left out only where they are those of a manifold of points of rest.

    Args:
        mu: Eigenvalues of `M` with their residuals.
        lr: Learning rate, or None for small steps.
        momentum: Coefficient of the heavy ball.
        tolerance: Size, relative to the largest eigenvalue, below which one counts as 0, and residual that is allowed.
        is_manifold: Tells whether SAM rests all along the zero modes; only called where the answer depends on it.

    Returns:
        The verdict.

    Example:
        >>> mu = Spectrum(torch.tensor([4.0, 1.0, 1e-12]) + 0j, torch.zeros(3), products=0)
        >>> verdict = decide(mu, lr=0.3, momentum=0.0, tolerance=1e-6, is_manifold=lambda: True)
        >>> verdict.attracts, verdict.max_stable_lr, verdict.zero_modes
        (True, 0.5, 1)
    """
    sizes = mu.values.abs()
    scale = float(sizes.max())
    counted = mu.values[sizes > tolerance * scale]
    zero_modes = len(mu.values) - len(counted)
    residual = float(mu.residuals.max()) / scale if scale > 0 else 0.0
    contraction = None
    if lr is not None and len(counted):
        contraction = float(multipliers(counted, lr=lr, momentum=momentum).abs().max())

    def verdict(attracts: bool | None, bound: float | None, reason: str = "") -> Verdict:
        return Verdict(attracts, bound, contraction, zero_modes, residual, reason)

    if not len(counted):
        return verdict(None, None, "all eigenvalues of M vanish, so that attraction depends on higher derivatives")
    sound = mu.residuals <= tolerance * scale
    if bool((sound & (mu.values.real < -tolerance * scale)).any()):
        return verdict(False, 0.0)
    if not bool(sound.all()):
        return verdict(None, None, f"the residual of an eigenvalue of M, {residual:.1e}, exceeds the tolerance")
    if bool((counted.real <= tolerance * scale).any()):
        return verdict(None, None, "an eigenvalue of M lies on the imaginary axis, as far as the tolerance tells")
    bound = float(max_stable_lr(counted.to(torch.complex128), momentum=momentum).min())
    stable = lr is None or lr < bound
    if zero_modes and not is_manifold():
        reason = f"SAM does not rest along zero modes of M ({zero_modes}): attraction depends on higher derivatives"
        return verdict(None if stable else False, None, reason)
    if lr is not None and abs(lr / bound - 1) <= tolerance:
        return verdict(None, bound, "the learning rate is the largest stable one, as far as the tolerance tells")
    return verdict(stable, bound)


def attracts_small_steps(
    mu: Tensor, *, tolerance: float, is_manifold: Callable[[], bool]
) -> tuple[bool | None, float | None]:
    """Tell whether small SAM steps are attracted, and up to which learning rate, from all eigenvalues of `M`, exact.

    Args:
        mu: The eigenvalues, shape (d,), complex.
        tolerance: Size, relative to the largest, up to which one counts as 0.
        is_manifold: As for `decide`.

    Returns:
        Whether all but zero modes lie right of 0, and the largest stable learning rate (0 if not); None for both where
        that depends on zero modes that are not those of a manifold, or there are no others.

    Example:
        >>> attracts_small_steps(torch.tensor([4.0, 1.0, 0.0]) + 0j, tolerance=1e-7, is_manifold=lambda: True)
        (True, 0.5)
    """
    size = mu.abs()
    counted = mu[size > tolerance * size.max()]
    if not len(counted):
        return None, None
    lr = float(max_stable_lr(counted).min())
    if lr > 0 and len(counted) < len(mu) and not is_manifold():
        return None, None
    return lr > 0, lr
