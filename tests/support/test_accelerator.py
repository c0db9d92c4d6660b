"""The pretended GPU fails where a real one does: held against the documentation of torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.accelerator import DEVICE, Accelerator, OnDevice, Waited, deterministic, introduce, on_host


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    introduce(monkeypatch)


def ones(*shape, **options):
    return OnDevice(torch.ones(*shape, **options))


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: float(x[0, 0]),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x + torch.tensor(1.0, device=DEVICE),
        lambda x: torch.zeros(3, 3).copy_(x),
        lambda x: x.copy_(torch.zeros(3, 3)),
        lambda x: torch.zeros(3, 3).to(DEVICE),
        lambda x: torch.zeros(3, 3).cuda(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x[torch.tensor([0, 2])],
        lambda x: x[[0, 2]],
        lambda x: x.repeat_interleave(ones(3, dtype=torch.int64), 0),
        lambda x: torch.equal(x, x),
        lambda x: torch.linalg.eigvalsh(x),
        lambda x: x[0].__setitem__(1, 2.0),
        lambda x: x.__setitem__((1, 2), torch.inf),
    ],
)
def test_it_notices_who_waits(wait):
    with Accelerator(), pytest.raises(Waited, match="the host waits to"):
        wait(ones(3, 3))
    mode = Accelerator(may_wait=True)
    with mode:
        wait(ones(3, 3))
    assert mode.waits > 0


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x[0].fill_(2.0),
        lambda x: x[0, 1].fill_(2.0),
        lambda x: x.__setitem__(0, 2.0),
        lambda x: x.__setitem__(slice(1, 3), 2.0),
        lambda x: x.__setitem__(x > 5, 2.0),
        lambda x: torch.full((), 2.0, device=DEVICE) + x,
        lambda x: torch.tensor(2.0) * x,
        lambda x: torch.zeros(3, 3).to(DEVICE, non_blocking=True) + x,
        lambda x: x.to(DEVICE) + x.cuda() + x.to("cuda", torch.float32),
        lambda x: torch.empty(3, 3, pin_memory=True).copy_(x, non_blocking=True),
        lambda x: x[ones(2, dtype=torch.int64)],
        lambda x: torch.func.vmap(torch.func.grad(lambda row: row.square().sum()))(x),
        lambda x: torch.linalg.cholesky_ex(x),
    ],
)
def test_nobody_waits_for_what_stays_on_the_device(work):
    with Accelerator():
        work(ones(3, 3))


def test_an_assignment_is_done_as_on_a_cpu():
    with Accelerator(may_wait=True):
        x, twin = ones(3, 3), torch.ones(3, 3)
        for y in (x, twin):
            y[1, 2] = 4.0
            y[0] = 2.0
            y[y > 3] = 5.0
            y[2, :2] = torch.tensor(7.0)
            y[[0, 1]] = y[[1, 0]]
    assert torch.equal(on_host(x), twin)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y.add_(x),
        lambda x, y: y[0, 0].add_(x[0, 0]),
        lambda x, y: torch.stack([x[0, 0], y[0, 0]]),
        lambda x, y: torch.cat([x, y]),
        lambda x, y: x @ y,
        lambda x, y: torch.where(x > 0, x, y),
        lambda x, y: y[x.long()],
        lambda x, y: x.index_select(0, y[0].long()),
        lambda x, y: x.__setitem__(x.long(), y[0]),
    ],
)
def test_it_keeps_the_sides_apart(mix):
    with Accelerator(may_wait=True), pytest.raises(RuntimeError, match="to be on the same device"):
        mix(ones(3, 3), torch.ones(3, 3))


def images(*shape):
    return ones(*shape).requires_grad_()


def backward(make):
    return lambda: make().sum().backward()


REFUSED = {
    "median CUDA with indices output": [lambda: ones(3).median(0), lambda: ones(3).nanmedian(0)],
    "kthvalue CUDA": [lambda: ones(3).kthvalue(1)],
    "cumsum_cuda_kernel": [
        lambda: ones(3).cumsum(0),
        lambda: ones(3).cumsum_(0),
        lambda: ones(3).cumsum(0, dtype=torch.float64),
    ],
    "put_": [lambda: ones(3).put_(ones(1, dtype=torch.int64), ones(1), accumulate=True)],
    "_histc_cuda": [lambda: ones(3).histc()],
    "_bincount_cuda": [lambda: ones(3, dtype=torch.int64).bincount(ones(3))],
    "scatter_reduce_cuda_prod_": [lambda: ones(3).scatter_reduce(0, ones(1, dtype=torch.int64), ones(1), "prod")],
    "index_reduce_cuda": [lambda: ones(3).index_reduce(0, ones(1, dtype=torch.int64), ones(1), "mean")],
    "nll_loss2d_forward_out_cuda_template": [
        lambda: functional.nll_loss(ones(1, 2, 3, 3), ones(1, 3, 3, dtype=torch.int64))
    ],
    "avg_pool3d_backward_cuda": [backward(lambda: functional.avg_pool3d(images(1, 1, 2, 2, 2), 2))],
    "adaptive_avg_pool2d_backward_cuda": [backward(lambda: functional.adaptive_avg_pool2d(images(1, 1, 4, 4), 2))],
    "adaptive_avg_pool3d_backward_cuda": [backward(lambda: functional.adaptive_avg_pool3d(images(1, 1, 4, 4, 4), 2))],
    "adaptive_max_pool2d_backward_cuda": [backward(lambda: functional.adaptive_max_pool2d(images(1, 1, 4, 4), 2))],
    "fractional_max_pool2d_backward_cuda": [
        backward(lambda: functional.fractional_max_pool2d(images(1, 1, 4, 4), 2, 2, _random_samples=ones(1, 1, 2) / 2))
    ],
    "max_unpooling2d_forward_out": [lambda: functional.max_unpool2d(ones(1, 1, 1, 1), ones(1, 1, 1, 1).long(), 2)],
    "upsample_linear1d_backward_out_cuda": [
        backward(lambda: functional.interpolate(images(1, 1, 4), scale_factor=2, mode="linear"))
    ],
    "upsample_bicubic2d_backward_out_cuda": [
        backward(lambda: functional.interpolate(images(1, 1, 4, 4), scale_factor=2, mode="bicubic"))
    ],
    "reflection_pad1d_backward_out_cuda": [backward(lambda: functional.pad(images(1, 1, 4), (1, 1), mode="reflect"))],
    "reflection_pad2d_backward_cuda": [
        backward(lambda: functional.pad(images(1, 1, 4, 4), (1, 1, 1, 1), mode="reflect"))
    ],
    "ctc_loss_backward_gpu": [
        backward(lambda: functional.ctc_loss(images(4, 1, 3).log_softmax(2), ones(1, 2, dtype=torch.int64), (4,), (2,)))
    ],
    "embedding_bag_backward_cuda_max": [
        backward(
            lambda: functional.embedding_bag(
                ones(2, dtype=torch.int64), images(3, 2), ones(1, dtype=torch.int64) * 0, mode="max"
            )
        )
    ],
    "grid_sampler_2d_backward_cuda": [
        backward(lambda: functional.grid_sample(images(1, 1, 4, 4), ones(1, 2, 2, 2), align_corners=False))
    ],
}


@pytest.mark.filterwarnings("ignore:index_reduce")  # which is in beta
@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls])
def test_it_refuses_what_has_no_deterministic_algorithm(name, call):
    with Accelerator(may_wait=True):
        call()  # nobody has asked for determinism
        with (
            deterministic(),
            pytest.raises(RuntimeError, match=f"^{name} does not have a deterministic implementation"),
        ):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ones(3).median(),
        lambda: ones(3).sort(),
        lambda: ones(3, dtype=torch.int64).cumsum(0),
        lambda: ones(3, dtype=torch.int64).bincount(),
        lambda: ones(3).index_add(0, ones(1, dtype=torch.int64), ones(1)),
        lambda: ones(3).scatter_reduce(0, ones(1, dtype=torch.int64), ones(1), "sum"),
        lambda: functional.nll_loss(ones(2, 3), ones(2, dtype=torch.int64)),
        backward(lambda: functional.adaptive_avg_pool2d(images(1, 1, 4, 4), 1)),
        backward(lambda: functional.max_pool2d(images(1, 1, 4, 4), 2)),
        backward(lambda: functional.interpolate(images(1, 1, 4, 4), scale_factor=2, mode="nearest")),
        backward(lambda: images(3)[ones(5, dtype=torch.int64)]),
        lambda: torch.ones(3).median(0),  # on the CPU all is allowed
        lambda: ones(2, 2) @ ones(2, 2),
    ],
)
def test_it_does_what_has_one(call):
    with Accelerator(may_wait=True), deterministic():
        call()


def test_it_refuses_a_workspace_of_cublas_that_is_not_fixed(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with Accelerator():
        ones(2, 2) @ ones(2, 2)
        with deterministic(workspace=None), pytest.raises(RuntimeError, match="CUBLAS_WORKSPACE_CONFIG"):
            nn.functional.linear(ones(1, 2), ones(2, 2))


def test_it_solves_least_squares_by_the_one_driver_of_cuda():
    with Accelerator(may_wait=True):
        torch.linalg.lstsq(ones(2, 1), ones(2, 1))
        with pytest.raises(RuntimeError, match="driver"):
            torch.linalg.lstsq(ones(2, 1), ones(2, 1), driver="gelsd")
