"""What a certificate says: numerical evidence of what a point is for SAM, with the residuals that it rests on."""

from dataclasses import dataclass

from torch import Tensor

from samirage.sam import AbstractVariant, Status, Variant


@dataclass(frozen=True, eq=False)
class Certificate:
    """Numerical evidence of what a point is to SAM: not a proof, which `samirage.points.prove` gives.

    `H` and `H⁺` are the Hessians at `x` and `x⁺`, `A` is the derivative of `x⁺`, and `M = H⁺·A + weight_decay·I` that
    of the update `d(x) = g⁺ + weight_decay·x`. Tensors of eigenvalues are float64 on the CPU, complex128 where some
    are complex.

    Attributes:
        kind: What the point is. `HALLUCINATED_MINIMIZER`: `x⁺` is a minimizer of `f`, whether or not SAM is attracted.
            `STATIONARY`: `x` is a stationary point of `f` itself, or so nearly that SAM's map has no derivative to
            speak of. `UNDECIDED`: SAM does not rest here, or the residuals are too large.
        attractor: Whether SAM's steps of size `lr` (if it is None: small steps) come back to the point from nearby.
            None where this could not be decided; `reason` says why.
        mu: Eigenvalues of `M`, by decreasing size: all of them if `complete`, else the largest and the leftmost.
        a: Eigenvalues of `A` on the tangent space of the level set, ascending (of the whole `A`, unless the variant is
            `"sam"`): all if `complete`, else the smallest and the largest.
        max_stable_lr: Learning rate below which the point attracts, at the given momentum; 0 where it never does, None
            where this could not be decided, infinity where all eigenvalues are zero modes.
        reason: Why something could not be decided; empty where all was.
        rho: Perturbation radius.
        lr: Learning rate, or None.
        variant: The variant, a name or an object.
        momentum: Coefficient of the heavy ball.
        weight_decay: Coefficient of the coupled weight decay.
        x: The point, shape (d,).
        x_plus: The perturbed point `x⁺`, shape (d,).
        loss: `f(x)`.
        loss_plus: `f(x⁺)`.
        grad_norm: `‖g‖`.
        grad_plus_norm: `‖g⁺‖`.
        update_norm: `‖d‖`: how far the point is from resting; equal to `‖g⁺‖` without weight decay.
        level_set_curvatures: Principal curvatures `κ_i` of the level set through `x`, ascending: all, or the two ends.
        hessian_ends: Smallest and largest eigenvalue of `H`.
        hessian_plus_ends: Smallest and largest eigenvalue of `H⁺`.
        contraction: Largest `|z|` of the multipliers of one step at `lr`, zero modes left out; None without `lr`.
        zero_modes: Number of eigenvalues of `M` that count as 0, as along a manifold of such points: all, or those
            among `mu`.
        tolerance: Size below which an eigenvalue counts as 0, relative to the largest; residuals are to stay below it.
        residual: Largest residual of the eigenvalues used, relative to the largest eigenvalue of their operator.
        asymmetry: `‖M − Mᵀ‖/(2‖M‖)` in the Frobenius norm, from 0 to 1: how far `M` is from symmetric.
        complete: Whether all eigenvalues were computed, densely.
        products: Hessian-vector products that were computed.
    """

    kind: Status
    attractor: bool | None
    mu: Tensor
    a: Tensor
    max_stable_lr: float | None
    reason: str
    rho: float
    lr: float | None
    variant: Variant | AbstractVariant
    momentum: float
    weight_decay: float
    x: Tensor
    x_plus: Tensor
    loss: float
    loss_plus: float
    grad_norm: float
    grad_plus_norm: float
    update_norm: float
    level_set_curvatures: Tensor
    hessian_ends: tuple[float, float]
    hessian_plus_ends: tuple[float, float]
    contraction: float | None
    zero_modes: int
    tolerance: float
    residual: float
    asymmetry: float
    complete: bool
    products: int

    @property
    def shift_ratio(self) -> float:
        """`r = ‖g⁺‖/‖g‖`; infinite where `g = 0`."""
        return self.grad_plus_norm / self.grad_norm if self.grad_norm else float("inf")

    def __str__(self) -> str:
        at = "small steps" if self.lr is None else f"lr = {self.lr:g}"
        attraction = {True: f"attracts SAM at {at}", False: f"repels SAM at {at}", None: "attraction undecided"}
        lines = [
            f"{self.kind.value} at rho = {self.rho:g} ({self.variant}): {attraction[self.attractor]}",
            f"  ‖g‖ = {self.grad_norm:.3g}, ‖g⁺‖ = {self.grad_plus_norm:.3g}, f = {self.loss:.4g}, "
            f"f⁺ = {self.loss_plus:.4g}",
            f"  H in [{self.hessian_ends[0]:.3g}, {self.hessian_ends[1]:.3g}], "
            f"H⁺ in [{self.hessian_plus_ends[0]:.3g}, {self.hessian_plus_ends[1]:.3g}]",
            f"  mu from {_shown(self.mu[:1])}, {self.zero_modes} zero modes among {len(self.mu)}, asymmetry "
            f"{self.asymmetry:.2g}, residual {self.residual:.1e}, {self.products} Hessian products",
        ]
        if self.max_stable_lr is not None:
            lines.append(f"  largest stable learning rate {self.max_stable_lr:.4g} (momentum {self.momentum:g})")
        return "\n".join([*lines, *([f"  undecided: {self.reason}"] if self.reason else [])])


def _shown(values: Tensor) -> str:
    return ", ".join(f"{complex(v):.3g}" if v.is_complex() else f"{float(v):.3g}" for v in values)
