"""Study `network`: Figure 3 of arXiv 2509.21818. A hallucinated minimizer of a network that reads digits.

How the paper found its point is not known to us. Ours is found by the picture of spheres: a hallucinated minimizer that
attracts SAM is a minimum of `f` on the sphere of radius rho about a minimizer `x_*` at which the gradient points
inwards. Flipping the signs of a hidden tanh unit's weights, in and out, leaves the network as it is; so minimizers come
in pairs, with ridges between them, and such a point is looked for near the mirror image of `x_*`.

Weight decay makes minimizers isolated, but for the weights of pixels that are never inked: those have no effect, and
decay leaves them out. Along them the hallucinated points form a set, as in the paper's picture.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from samirage.criteria import HALLUCINATED_SHIFT_RATIO
from samirage.errors import require
from samirage.lab.engine.models import MLP, cross_entropy
from samirage.lab.results.claims import DETERMINISTIC, Claim, Relation
from samirage.lab.results.config import StudyConfig
from samirage.lab.results.constants import POLISHED_SHIFT_RATIO
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.tasks.mnist import Digits
from samirage.landscape import Mark, Objective, ascent_line, plane, random_plane, scan
from samirage.points import certify, polish
from samirage.sam import displacement, sam_map

_HIDDEN: Final = 32
_CLASSES: Final = 10
_WAY: Final = 60  # points of the drawn way of SAM


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(StudyConfig):
    """What decides the numbers of this study, besides what every study has.

    Attributes:
        data: Name of the data set.
        images: Training images used; the first so many.
        grid: Grid points along each axis.
        steps: SAM steps from the perturbed point.
        decay: Coefficient of the weight decay.
        flipped: Hidden units whose signs are flipped.
        reach: Radius of the sphere, relative to the distance of the mirror image.
        lr: Learning rate of SAM, relative to the largest stable one.
        perturbation: Distance of the start from the hallucinated point.
        seeds: Number of seeds, of which the first initialises the network.
    """

    data: str
    images: int
    grid: int
    steps: int
    decay: float = 0.1
    flipped: int = 8
    reach: float = 0.9
    lr: float = 0.5
    perturbation: float = 0.02
    seeds: int = 1


SCALES: Final = {
    "smoke": NetworkConfig(scale="smoke", data="mnist-mini", images=60, grid=9, steps=200),
    "laptop": NetworkConfig(scale="laptop", data="mnist-mini", images=200, grid=41, steps=1000),
    "paper": NetworkConfig(scale="paper", data="mnist", images=5000, grid=101, steps=1000),
}


class Penalized(nn.Module):
    """A network that also returns the sum of squares of its weights, but for those of inputs that are always 0.

    Args:
        network: Its first layer is `layers[0]`.
        live: Which inputs are not always 0.
    """

    def __init__(self, network: MLP, live: Tensor) -> None:
        super().__init__()
        self.network = network
        self.live: Tensor
        self.register_buffer("live", live.to(next(network.parameters()).dtype))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs (n, width) to logits (n, classes) and the sum of squares."""
        first = cast(nn.Linear, self.network.layers[0]).weight
        others = [p.square().sum() for p in self.network.parameters() if p is not first]
        return self.network(x), (first.square() * self.live).sum() + torch.stack(others).sum()


@dataclass(frozen=True)
class _Found:
    """The point: the objective, `x_*`, `x_h`, the radius, and SAM's learning rate there."""

    f: Objective
    x_star: Tensor
    x_h: Tensor
    rho: float
    lr: float
    kind: str
    attractor: bool | None
    mu: tuple[float, float]


class NetworkStudy(AbstractSeededStudy[NetworkConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the device is unavailable.

    Example:
        >>> [cell.name for cell in NetworkStudy(SCALES["smoke"]).cells()]
        ['random', 'along-u', 'trajectory']
    """

    name: ClassVar[str] = "network"
    scales = SCALES
    fixed = ("loss", "rhos")

    @cached_property
    def _data(self) -> Digits:
        one = self._settings
        return Digits(one.data, images=one.images, hidden=_HIDDEN, device=self.device, data_dir=self._data_dir)

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        _ = self._data

    def cells(self) -> list[Cell]:
        """Return the plan: the plane of two random directions, the line along `u`, the plane of SAM's way."""
        one = self._settings
        return [
            Cell("random", passes=2 * one.grid**2, settings={}),
            Cell("along-u", passes=4 * one.grid, settings={}),
            Cell("trajectory", passes=2 * one.grid**2 + 2 * one.steps, settings={}),
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Scan one plane or line at the hallucinated point; see `AbstractStudy`."""
        found, one = self._found, self._settings
        f, x = found.f, found.x_h
        marks = [Mark("x_h", "hallucinated", x)]
        if cell.name == "random":
            at = random_plane(f, x, seed=one.first_seed, spans=(-0.0015, 0.0015))
            results = scan(f, at, rho=found.rho, steps=one.grid, marks=marks, at_once=1)
        elif cell.name == "along-u":
            marks.append(Mark("x_*", "minimizer", found.x_star))
            line = ascent_line(f, x, rho=found.rho, span=(-0.25 * found.rho, 1.25 * found.rho))
            results = scan(f, line, rho=found.rho, steps=2 * one.grid, marks=marks, at_once=1)
        else:
            results = self._along_the_way(found, advance)
        advance(int(results.loss.size) * 2)
        loss, grad = f.value_and_grad(x)
        loss_plus, grad_plus = f.value_and_grad(x + displacement(x, grad, found.rho))
        return results.assign(
            loss_at=float(loss),
            loss_sam_at=float(loss_plus),
            loss_star=float(f(found.x_star)),
            grad_norm_at=float(grad.norm()),
            grad_plus_norm_at=float(grad_plus.norm()),
        ).assign_attrs(
            lr=found.lr,
            certificate=found.kind,
            attractor="unknown" if found.attractor is None else ("yes" if found.attractor else "no"),
            mu_ends=list(found.mu),
            images=one.images,
        )

    def _along_the_way(self, found: _Found, advance: Callable[[int], None]) -> xr.Dataset:
        """SAM from a perturbed `x_h`, in the plane through `x_h`, where it ends, and where it began."""
        f, x, one = found.f, found.x_h, self._settings
        drawn = torch.randn(f.dim, generator=torch.Generator().manual_seed(one.first_seed), dtype=torch.float64).to(x)
        start = x + one.perturbation * drawn / drawn.norm()
        way = [start]
        kept = {round(one.steps * (k / (_WAY - 1)) ** 3) for k in range(_WAY)}
        point = start
        for step in range(1, one.steps + 1):
            point = sam_map(f.grad, point, rho=found.rho, lr=found.lr)
            if step in kept:
                way.append(point)
            advance(2)
        marks = [
            Mark("SAM", "path", torch.stack(way)),
            Mark("hallucinated points", "set", torch.stack([x, point])),
            Mark("x_h", "hallucinated", x),
            Mark("x_0", "point", start),
            Mark("x_N", "hallucinated", point),
        ]
        labels = ("distance along x_h → x_N", "distance towards x_0")
        at = plane(x, point, start, labels=labels)
        results = scan(f, at, rho=found.rho, steps=one.grid, marks=marks, at_once=1)
        between = torch.linspace(0, 1, 9, dtype=torch.float64, device=x.device)[:, None]
        segment = x + between * (point - x)
        grad = f.grad(segment)
        plus = f.grad(segment + displacement(segment, grad, found.rho))
        return results.assign(
            segment_shift_ratio=("segment", (plus.norm(dim=1) / grad.norm(dim=1)).cpu().numpy()),
            start_shift_ratio=float(self._shift_ratio(found, start)),
            end_shift_ratio=float(self._shift_ratio(found, point)),
            end_distance=float((point - x).norm()),
        )

    @staticmethod
    def _shift_ratio(found: _Found, x: Tensor) -> Tensor:
        grad = found.f.grad(x)
        ratio: Tensor = found.f.grad(x + displacement(x, grad, found.rho)).norm() / grad.norm()
        return ratio

    @cached_property
    def _found(self) -> _Found:
        """Train to `x_*`, go to its mirror image, find the minimum on the sphere, polish and certify it."""
        one = self._settings
        images = self._data.x.double()
        inputs = images - images.mean(0)  # centred: the mean image alone would make the top curvature ten times larger
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(one.first_seed)
            network = MLP([inputs.shape[1], _HIDDEN, _CLASSES]).double().to(self.device)
        model = Penalized(network, (images.amax(0) > 0)).to(self.device)

        def loss(outputs: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
            return cross_entropy(outputs[0], labels) + one.decay / 2 * outputs[1]

        f = Objective(model, loss, [(inputs, self._data.labels)])
        x_star = _minimize(f.value_and_grad, f.flat_parameters())
        away = _mirror_image(f, x_star, model.live.bool(), one.flipped) - x_star
        rho = one.reach * float(away.norm())

        def on_sphere(v: Tensor) -> tuple[Tensor, Tensor]:
            length = v.norm()
            value, grad = f.value_and_grad(x_star + rho * v / length)
            return value, rho / length * (grad - (grad @ v) / length**2 * v)

        v = _minimize(on_sphere, away)
        x_h = polish(f, x_star + rho * v / v.norm(), rho, max_steps=4, max_products=100).x
        certificate = certify(f, x_h, rho, dense=False)
        stable = certificate.max_stable_lr
        lr = one.lr * (stable if stable and math.isfinite(stable) else 0.01)
        real = certificate.mu.real
        return _Found(
            f, x_star, x_h, rho, lr, str(certificate.kind.value), certificate.attractor,
            (float(real.min()), float(real.max())),
        )  # fmt: skip

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the pictures against what the paper says of its own; see `AbstractStudy`."""
        common: dict[str, Any] = {"command": command, "standard_error": math.nan, "no_error": DETERMINISTIC}
        claims = []
        if (cell := results.get("random")) is not None:
            lower = float((cell.loss_sam < float(cell.loss_sam_at) - 1e-12).mean())
            claims += [
                Claim(
                    statement="On a plane of two random directions no point has a lower fˢᴬᴹ than xₕ: share that has",
                    source="Figure 3 (b)", relation=Relation.AT_MOST, expected=0.0, measured=lower,
                    n=int(cell.loss_sam.size), **common,
                ),
                Claim(
                    statement="xₕ is not stationary for f: the gradient that SAM follows, relative to the real one",
                    source="Figure 3 (a)", relation=Relation.AT_MOST, expected=POLISHED_SHIFT_RATIO,
                    measured=float(cell.grad_plus_norm_at / cell.grad_norm_at), n=1, **common,
                ),
                Claim(
                    statement="SAM sees a lower loss than there is: f − fˢᴬᴹ at xₕ",
                    source="Figure 3", relation=Relation.AT_LEAST, expected=1e-6,
                    measured=float(cell.loss_at - cell.loss_sam_at), n=1, **common,
                ),
                Claim(
                    statement="The certificate says that xₕ attracts SAM (1: yes)",
                    source="Theorem 3.2", relation=Relation.AT_LEAST, expected=1.0,
                    measured=float(cell.attrs["attractor"] == "yes"), n=1, **common,
                ),
            ]  # fmt: skip
        if (cell := results.get("along-u")) is not None:
            inside = (cell["first"] > 0) & (cell["first"] < cell.attrs["rho"])
            ridge = float(cell.loss.where(inside).max()) - float(cell.loss_at)
            claims.append(
                Claim(
                    statement="Between xₕ and x⁺ lies a ridge: how far the loss rises above that at xₕ",
                    source="ours",
                    relation=Relation.AT_LEAST,
                    expected=1e-4,
                    measured=ridge,
                    n=int(inside.sum()),
                    **common,
                )
            )
        if (cell := results.get("trajectory")) is not None:
            claims += [
                Claim(
                    statement="From a perturbed xₕ, SAM comes back to hallucinated points: shift ratio at the end, "
                    "relative to that at the start",
                    source="Figure 3 (c)", relation=Relation.AT_MOST, expected=1e-2,
                    measured=float(cell.end_shift_ratio / cell.start_shift_ratio), n=1, **common,
                ),
                Claim(
                    statement="Between xₕ and where SAM ends, all points are hallucinated: largest shift ratio",
                    source="Figure 3 (c)", relation=Relation.AT_MOST, expected=HALLUCINATED_SHIFT_RATIO,
                    measured=float(cell.segment_shift_ratio.max()), n=int(cell.sizes["segment"]), **common,
                ),
            ]  # fmt: skip
        return claims


def _minimize(value_and_grad: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Run L-BFGS to rounding."""

    def both(v: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
        value, grad = value_and_grad(torch.from_numpy(v).to(x))
        return float(value), grad.cpu().numpy()

    options = {"maxiter": 1500, "maxfun": 2000, "ftol": 0.0, "gtol": 1e-10, "maxcor": 30}
    optimize = require("lab", "scipy.optimize")
    result = optimize.minimize(both, x.cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(result.x).to(x)


def _mirror_image(f: Objective, x: Tensor, live: Tensor, count: int) -> Tensor:
    """Flip the signs of the weights of the largest hidden units, in and out: the same network, elsewhere."""
    mirrored = x.clone()
    parts = f.unflatten(mirrored)  # views: what is flipped in them is flipped in the vector
    incoming, bias = parts["network.layers.0.weight"], parts["network.layers.0.bias"]
    outgoing = parts["network.layers.1.weight"]
    size = incoming[:, live].square().sum(1) + bias.square() + outgoing.square().sum(0)
    for unit in size.argsort(descending=True)[:count].tolist():
        incoming[unit, live] *= -1
        bias[unit] *= -1
        outgoing[:, unit] *= -1
    return mirrored
