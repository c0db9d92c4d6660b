"""Where SAM looks: the ascent direction and the perturbation `e` of each variant.

| variant | perturbation | source |
|---|---|---|
| `"sam"` | `e = rho·g/‖g‖` | Foret et al., arXiv 2010.01412 |
| `"asam"` | `e = rho·x²∘g/‖x∘g‖` | Kwon et al., arXiv 2102.11600, with their `eta` = 0 |
| `"unnormalized"` | `e = rho·g` | Andriushchenko and Flammarion, arXiv 2206.06232 |

The norm is one norm over all tensors. A zero gradient gives `e = 0`. A gradient that holds an infinity or a NaN
has no direction: `e` is then NaN throughout, never a silent plain step, and the caller decides what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from samirage.sam.host import is_at_hand
from samirage.sam.pieces import PIECE, SAFE_NORM, norms_on_host

Variant = Literal["sam", "asam", "unnormalized"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)

Rho = float | Tensor | Sequence[float] | Sequence[float | Tensor]


@dataclass(frozen=True)
class Perturbation:
    """What pass 1 of a SAM step determines.

    Attributes:
        displacement: `e`, one tensor per parameter, in the gradient's dtype.
        grad_norm: `‖g‖`, shape () or (S,), float64 where the device has it.
        predicted_gain: `<g, e>`, the rise in loss that the linear model predicts; shape as `grad_norm`.
    """

    displacement: list[Tensor]
    grad_norm: Tensor
    predicted_gain: Tensor


_LARGE: Final = 2**16  # elements from which a float64 reduction on a CPU, which first copies, costs more than a look


def _accumulator(tensor: Tensor) -> torch.dtype:
    """Dtype for sums over the tensor: float64, but for MPS, which has none."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _dot_accumulator(tensor: Tensor) -> torch.dtype:
    """Dtype for sums of products, whose terms are float32 already: a CPU would copy them all to widen them."""
    large = is_at_hand(tensor) and tensor.dtype == torch.float32 and tensor.numel() >= _LARGE
    return torch.float32 if large else _accumulator(tensor)


def _fast_norm(tensor: Tensor, dim: int | None) -> Tensor:
    """Norm over all entries or over dimension 1, accumulated in float32 over stretches, in float64 over these."""
    rows = tensor.reshape(1, -1) if dim is None else tensor
    count = rows.shape[1] // PIECE
    parts = torch.linalg.vector_norm(rows[:, count * PIECE :], dim=1, keepdim=True)
    if count:
        stretches = rows[:, : count * PIECE].view(len(rows), count, PIECE)
        parts = torch.cat([parts, torch.linalg.vector_norm(stretches, dim=2)], 1)
    norms: Tensor = torch.linalg.vector_norm(parts, dim=1, dtype=torch.float64)
    return norms[0] if dim is None else norms


def _tensor_norm(tensor: Tensor, dim: int | None) -> Tensor:
    if tensor.dtype == torch.float32 and tensor.numel() >= _LARGE and is_at_hand(tensor):
        fast = _fast_norm(tensor, dim)
        if bool(((fast > SAFE_NORM[0]) & (fast < SAFE_NORM[1])).all()):
            return fast
    exact: Tensor = torch.linalg.vector_norm(tensor, dim=dim, dtype=_accumulator(tensor))
    return exact


def _is_short(tensor: Tensor) -> bool:
    """Tell whether a CPU sums the entries up fastest in float32, and exactly enough."""
    return tensor.dtype == torch.float32 and is_at_hand(tensor) and tensor.numel() <= PIECE


def _norms(tensors: Sequence[Tensor], batched: bool) -> tuple[Tensor, Tensor]:
    """Euclidean norms on the device of the first: of each, shape (len(tensors),) or (len(tensors), S), and of all."""
    if not batched and all(t.dtype in (torch.float32, torch.float64) and is_at_hand(t) for t in tensors):
        each, total = norms_on_host(tensors)
        return torch.tensor(each, dtype=torch.float64), torch.full((), total, dtype=torch.float64)
    if batched:
        norms = [_tensor_norm(t.unsqueeze(-1).flatten(1), 1) for t in tensors]
    else:
        norms = [_tensor_norm(t, None) for t in tensors]
    stacked = torch.stack([n.to(norms[0].device) for n in norms])
    return stacked, torch.linalg.vector_norm(stacked, dim=0)


def norm(tensors: Sequence[Tensor], *, batched: bool = False) -> Tensor:
    """Return the Euclidean norm over all tensors together: in float32 or better, without overflow or underflow.

    Args:
        tensors: At least one tensor.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        Shape (), or (S,) when batched.

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
        5.0
    """
    return _norms(tensors, batched)[1]


def dot(a: Sequence[Tensor], b: Sequence[Tensor], *, batched: bool = False) -> Tensor:
    """Return the inner product `<a, b>` over all tensors together, accumulated in float32 or better.

    Args:
        a: At least one tensor.
        b: Tensors of the same shapes.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        Shape (), or (S,) when batched.

    Example:
        >>> dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
        1.0
    """
    dim = 1 if batched else 0
    products = [
        torch.dot(p.reshape(-1), q.reshape(-1))
        if not batched and _is_short(p) and _is_short(q)
        else (p * q).unsqueeze(-1).flatten(dim).sum(dim, dtype=_dot_accumulator(p))
        for p, q in zip(a, b, strict=True)
    ]
    return torch.stack([product.to(products[0].device, _accumulator(product)) for product in products]).sum(0)


def ascent_direction(grads: Sequence[Tensor], *, batched: bool = False) -> list[Tensor]:
    """Return `u = g/‖g‖`; zero where `g = 0`, NaN where `g` is not finite.

    Args:
        grads: `g`, one tensor per parameter.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        One tensor per parameter, of unit norm over all together.

    Example:
        >>> ascent_direction([torch.tensor([3.0]), torch.tensor([4.0])])
        [tensor([0.6000]), tensor([0.8000])]
    """
    return _scaled(grads, [_reciprocal(norm(grads, batched=batched))] * len(grads), batched)


def perturb(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    rho: Rho,
    *,
    variant: Variant = "sam",
    batched: bool = False,
) -> Perturbation:
    """Return the perturbation `e` with which SAM moves to `x⁺ = x + e`.

    Args:
        params: `x`, one tensor per parameter; only `"asam"` reads it.
        grads: `g`, one tensor per parameter.
        rho: Perturbation radius, finite and at least 0, in the units of the parameters: a number; a tensor of
            shape (S,) when batched; or a number (or a tensor of shape ()) per tensor, which scales its own tensor
            while the norm stays that of all tensors together.
        variant: `"sam"`, `"asam"` or `"unnormalized"`; the equations stand at the top of this module.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        The displacement with the figures that come with it.

    Raises:
        ValueError: If the variant is unknown.

    Example:
        >>> perturb([torch.zeros(2)], [torch.tensor([0.0, 7.0])], rho=0.5).displacement
        [tensor([0.0000, 0.5000])]
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got {variant!r}")
    norms, grad_norm = _norms(grads, batched)
    length = grad_norm
    direction: Sequence[Tensor] = grads
    if variant == "asam":
        weighted = [p * g for p, g in zip(params, grads, strict=True)]
        norms, length = _norms(weighted, batched)
        direction = [p.mul(w) for p, w in zip(params, weighted, strict=True)]
    # Unnormalized: the radius is rho·‖g‖; adding 0·‖g‖ lets a gradient that is not finite poison all of e.
    plain = variant == "unnormalized"
    unit = 1.0 + 0.0 * grad_norm if plain else _reciprocal(length)
    if isinstance(rho, Sequence):
        scales = [unit * radius for radius in rho]
        gain = torch.stack([scale * n.square() for scale, n in zip(scales, norms, strict=True)]).sum(0)
    else:
        scales = [unit * rho] * len(norms)
        gain = scales[0] * norms.square().sum(0)
    return Perturbation(_scaled(direction, scales, batched), grad_norm, gain)


def _reciprocal(magnitude: Tensor) -> Tensor:
    """1/magnitude; 0 where the magnitude is 0, and NaN where it is not finite."""
    inverse = magnitude.reciprocal().nan_to_num(nan=torch.nan, posinf=0.0)
    return inverse + 0 * magnitude  # which is NaN where the magnitude is not finite


def _scaled(tensors: Sequence[Tensor], scales: Sequence[Tensor], batched: bool) -> list[Tensor]:
    scaled = []
    factors: dict[tuple[int, torch.device, bool], Tensor] = {}
    for tensor, scale in zip(tensors, scales, strict=True):
        # Half precision cannot hold 1/‖g‖; a 0-d float32 factor does not change a half tensor's dtype.
        wide = tensor.dtype == torch.float64
        key = (id(scale), tensor.device, wide)
        if key not in factors:
            factors[key] = scale.to(tensor.device, torch.float64 if wide else torch.float32)
        factor = factors[key]
        scaled.append(tensor * (factor.view(-1, *[1] * (tensor.dim() - 1)) if batched else factor))
    return scaled
