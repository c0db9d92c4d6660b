"""What a certificate says: numerical evidence of what a point is for SAM, with the residuals that it rests on."""

from dataclasses import dataclass

from torch import Tensor

from samirage.sam import AbstractVariant, Status, Variant


@dataclass(frozen=True)
class Settings:
    """The steps that the certificate is about.

    Attributes:
        rho: Perturbation radius.
        lr: Learning rate, or None for small steps.
        variant: The variant, a name or an object.
        momentum: Coefficient of the heavy ball.
        weight_decay: Coefficient of the coupled weight decay.
    """

    rho: float
    lr: float | None
    variant: Variant | AbstractVariant
    momentum: float
    weight_decay: float


@dataclass(frozen=True, eq=False)
class Point:
    """The point, and what SAM sees from it.

    Attributes:
        x: The point, shape (d,).
        x_plus: The perturbed point `x⁺`, shape (d,).
        loss: `f(x)`.
        loss_plus: `f(x⁺)`.
        grad_norm: `‖g‖`.
        grad_plus_norm: `‖g⁺‖`.
        update_norm: `‖d‖`: how far the point is from resting; equal to `‖g⁺‖` without weight decay.
    """

    x: Tensor
    x_plus: Tensor
    loss: float
    loss_plus: float
    grad_norm: float
    grad_plus_norm: float
    update_norm: float

    @property
    def shift_ratio(self) -> float:
        """`r = ‖g⁺‖/‖g‖`; infinite where `g = 0`."""
        return self.grad_plus_norm / self.grad_norm if self.grad_norm else float("inf")


@dataclass(frozen=True, eq=False)
class Spectra:
    """Eigenvalues, as tensors in float64 on the CPU, in complex128 where some are complex.

    Attributes:
        mu: Eigenvalues of `M`, by decreasing size: all of them if `complete`, else the largest and the leftmost.
        a: Eigenvalues of `A` on the tangent space of the level set, ascending (of the whole `A`, unless the variant is
            `"sam"`): all if `complete`, else the smallest and the largest.
        level_set_curvatures: Principal curvatures `κ_i` of the level set through `x`, ascending: all, or the two ends.
        hessian_ends: Smallest and largest eigenvalue of `H`.
        hessian_plus_ends: Smallest and largest eigenvalue of `H⁺`.
        asymmetry: `‖M − Mᵀ‖/(2‖M‖)` in the Frobenius norm, from 0 to 1: how far `M` is from symmetric.
    """

    mu: Tensor
    a: Tensor
    level_set_curvatures: Tensor
    hessian_ends: tuple[float, float]
    hessian_plus_ends: tuple[float, float]
    asymmetry: float


@dataclass(frozen=True)
class Stability:
    """Whether SAM is attracted.

    Attributes:
        attractor: Whether SAM's steps of size `lr` (if it is None: small steps) come back to the point from nearby.
            None where this could not be decided; `reason` says why.
        max_stable_lr: Learning rate below which the point attracts, at the given momentum; 0 where it never does, None
            where this could not be decided.
        contraction: Largest `|z|` of the multipliers of one step at `lr`, zero modes left out; None without `lr`.
        zero_modes: Number of eigenvalues of `M` that count as 0: all, or those among `mu`. They do not count against
            attraction where SAM was seen to rest all along them, as on a manifold of such points.
        reason: Why something could not be decided; empty where all was.
    """

    attractor: bool | None
    max_stable_lr: float | None
    contraction: float | None
    zero_modes: int
    reason: str


@dataclass(frozen=True)
class Numerics:
    """How exact the figures are, and what they cost.

    Attributes:
        tolerance: Size below which an eigenvalue counts as 0, relative to the largest; residuals are to stay below it.
        residual: Largest residual of the eigenvalues used, relative to the largest eigenvalue of their operator.
        complete: Whether all eigenvalues were computed, densely.
        products: Hessian-vector products that the spectra took.
    """

    tolerance: float
    residual: float
    complete: bool
    products: int


@dataclass(frozen=True)
class Certificate:
    """Numerical evidence of what a point is to SAM: not a proof, which `samirage.points.prove` gives.

    `H` and `H⁺` are the Hessians at `x` and `x⁺`, `A` is the derivative of `x⁺`, and `M = H⁺·A + weight_decay·I` that
    of the update `d(x) = g⁺ + weight_decay·x`. Every figure of the groups is an attribute of the certificate too:
    `certificate.mu` is `certificate.spectra.mu`.

    Attributes:
        kind: What the point is. `HALLUCINATED_MINIMIZER`: `x⁺` is a minimizer of `f`, whether or not SAM is attracted;
            and so on for a maximizer, a saddle (of any order: `f` rises from it one way and falls another) and a
            plateau. Where `H⁺` has zero modes, `x⁺` is called a minimizer or maximizer only if `f` was seen to stay
            flat along them. `STATIONARY`: `x` is a stationary point of `f` itself, or so nearly that SAM's map has no
            derivative to speak of. `UNDECIDED`: SAM does not rest here, the residuals are too large, or `x⁺` is a
            degenerate point, such as a quartic minimum; `reason` says which.
        settings: The steps that it is about.
        point: The point.
        spectra: The eigenvalues there.
        stability: Whether SAM is attracted.
        numerics: How exact the figures are.
    """

    kind: Status
    settings: Settings
    point: Point
    spectra: Spectra
    stability: Stability
    numerics: Numerics

    @property
    def rho(self) -> float:
        """Perturbation radius."""
        return self.settings.rho

    @property
    def lr(self) -> float | None:
        """Learning rate, or None for small steps."""
        return self.settings.lr

    @property
    def variant(self) -> Variant | AbstractVariant:
        """Variant of SAM."""
        return self.settings.variant

    @property
    def momentum(self) -> float:
        """Coefficient of the heavy ball."""
        return self.settings.momentum

    @property
    def weight_decay(self) -> float:
        """Coefficient of the coupled weight decay."""
        return self.settings.weight_decay

    @property
    def x(self) -> Tensor:
        """The point, shape (d,)."""
        return self.point.x

    @property
    def x_plus(self) -> Tensor:
        """The perturbed point `x⁺`, shape (d,)."""
        return self.point.x_plus

    @property
    def loss(self) -> float:
        """`f(x)`."""
        return self.point.loss

    @property
    def loss_plus(self) -> float:
        """`f(x⁺)`."""
        return self.point.loss_plus

    @property
    def grad_norm(self) -> float:
        """`‖g‖`."""
        return self.point.grad_norm

    @property
    def grad_plus_norm(self) -> float:
        """`‖g⁺‖`."""
        return self.point.grad_plus_norm

    @property
    def update_norm(self) -> float:
        """`‖d‖`."""
        return self.point.update_norm

    @property
    def shift_ratio(self) -> float:
        """`r = ‖g⁺‖/‖g‖`."""
        return self.point.shift_ratio

    @property
    def mu(self) -> Tensor:
        """Eigenvalues of `M`."""
        return self.spectra.mu

    @property
    def a(self) -> Tensor:
        """Eigenvalues of `A`, of plain SAM on the tangent space of the level set."""
        return self.spectra.a

    @property
    def level_set_curvatures(self) -> Tensor:
        """Principal curvatures of the level set through `x`."""
        return self.spectra.level_set_curvatures

    @property
    def hessian_ends(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of `H`."""
        return self.spectra.hessian_ends

    @property
    def hessian_plus_ends(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of `H⁺`."""
        return self.spectra.hessian_plus_ends

    @property
    def asymmetry(self) -> float:
        """How far `M` is from symmetric, from 0 to 1."""
        return self.spectra.asymmetry

    @property
    def attractor(self) -> bool | None:
        """Whether SAM is attracted; None if undecided."""
        return self.stability.attractor

    @property
    def max_stable_lr(self) -> float | None:
        """Learning rate below which SAM is attracted; None if undecided."""
        return self.stability.max_stable_lr

    @property
    def contraction(self) -> float | None:
        """Largest multiplier of one step at `lr`."""
        return self.stability.contraction

    @property
    def zero_modes(self) -> int:
        """Number of eigenvalues of `M` that count as 0."""
        return self.stability.zero_modes

    @property
    def reason(self) -> str:
        """Why something could not be decided."""
        return self.stability.reason

    @property
    def tolerance(self) -> float:
        """Relative size below which an eigenvalue counts as 0."""
        return self.numerics.tolerance

    @property
    def residual(self) -> float:
        """Largest relative residual of an eigenvalue."""
        return self.numerics.residual

    @property
    def complete(self) -> bool:
        """Whether all eigenvalues were computed."""
        return self.numerics.complete

    @property
    def products(self) -> int:
        """Hessian-vector products that the spectra took."""
        return self.numerics.products

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
