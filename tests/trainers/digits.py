"""A small problem for all trainers, and what training on it must give: by hand, and in a plain loop with SAM.

The network has what goes wrong in a second pass: dropout, whose masks must be those of pass 1, and batch-norm
statistics, which must be those of one pass. Each step begins with `torch.manual_seed(step)`, so that the trainers' own
use of random numbers does not matter.
"""

import re
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from samirage import SAM
from samirage.lab.data.datasets import load
from samirage.optim import accumulated

SIZE, STEPS, LR, MOMENTUM, RHO = 16, 24, 0.1, 0.9, 0.5


@cache
def images(n=SIZE * STEPS):
    data = load("mnist-mini")
    x = torch.from_numpy(data.train_images[:n]).float().flatten(1) / 255
    return x[:, ::7].contiguous(), torch.from_numpy(data.train_labels[:n])


def batches(size=SIZE):
    x, y = images()
    return list(zip(x.split(size), y.split(size), strict=True))


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(112, 24), nn.BatchNorm1d(24), nn.Tanh(), nn.Dropout(0.2), nn.Linear(24, 10))


def base(model):
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)


def decay(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.95**step)


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def by_hand(*, micro=1, clip=None, rho=RHO):
    """SAM as the paper writes it, without samirage: g, x + rho·g/‖g‖, g⁺, back to x, a step of SGD."""
    model = network()
    optimizer = base(model)
    scheduler = decay(optimizer)
    params = list(model.parameters())
    parts = batches(SIZE // micro)

    def gradient(step):
        torch.manual_seed(step)
        losses = [nn.functional.cross_entropy(model(x), y) / micro for x, y in parts[step * micro : (step + 1) * micro]]
        return torch.autograd.grad(sum(losses), params)

    for step in range(STEPS):
        home = [p.detach().clone() for p in params]
        g = gradient(step)
        statistics = [b.clone() for b in model.buffers()]
        length = torch.cat([v.flatten() for v in g]).norm()
        with torch.no_grad():
            for p, v in zip(params, g, strict=True):
                p += rho * v / length
        g_plus = gradient(step)
        with torch.no_grad():
            for now, before in zip([*params, *model.buffers()], [*home, *statistics], strict=True):
                now.copy_(before)
        for p, v in zip(params, g_plus, strict=True):
            p.grad = v
        if clip is not None:
            nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        scheduler.step()
    return state(model)


def plain(*, micro=1, dtype=None, scaler=None, steps=STEPS, **options):
    """A plain loop with SAM, in one block of autocast for each forward pass; returns the weights and the records."""
    model = network()
    optimizer = SAM(base(model), model=model, scaler=scaler, **{"rho": RHO} | options)
    scheduler = decay(optimizer)
    parts = batches(SIZE // micro)

    def loss(batch):
        with nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype):
            out = model(batch[0])
        return nn.functional.cross_entropy(out.float(), batch[1])

    records = []
    for step in range(steps):
        torch.manual_seed(step)
        closure = accumulated(optimizer, loss, parts[step * micro : (step + 1) * micro])
        if scaler is None:
            optimizer.step(closure)
        else:
            scaler.step(optimizer, closure)
            scaler.update()
        scheduler.step()
        records.append(optimizer.record)
    return state(model), records


def same(a, b, atol=0.0):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def alike(a, b, *, half=False):
    """The same but for rounding, which depends on where a tensor lies in memory, and which half precision amplifies."""
    same(a, b, atol=2e-3 if half else 2e-6)


def differ(a, b, by=1e-2):
    assert max((a[name] - b[name]).abs().max().item() for name in a if a[name].is_floating_point()) > by


def blocks(page):
    """The Python blocks of a page of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
