"""Runs of SAM on analytic functions, with and without a monitor."""

import torch

from samirage import SAM, Monitor
from samirage.landscape import DoubleWell, Quadratic, Ring

RING, DOUBLE_WELL = Ring(), DoubleWell()


def run(f, start, *, steps, lr=0.05, rho=1.5, style="closure", window=None, sinks=(), base=torch.optim.SGD, **options):
    """Train one point; return its optimizer and the monitor, if it has one."""
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    settings = {key: options.pop(key) for key in ("momentum", "weight_decay") if key in options}
    optimizer = SAM(base([x], lr=lr, **settings), rho=rho, **options)
    monitor = None if window is None else Monitor(optimizer, window=window, sinks=sinks)
    go_on(f, x, optimizer, steps, style)
    return optimizer, monitor


def go_on(f, x, optimizer, steps, style="closure"):
    def closure():
        optimizer.zero_grad()
        loss = f(x)
        loss.backward()
        return loss.detach()

    for _ in range(steps):
        if style == "closure":
            optimizer.step(closure)
        else:
            closure()
            if optimizer.two_pass:
                with optimizer.perturbed():
                    closure()
            optimizer.step()


def hallucinated(**settings):
    return run(RING, [0.9, 0.1], **{"steps": 300, **settings})


def bouncing(**settings):
    return run(Quadratic([4.0, 1.0]), [0.3, 0.2], **{"steps": 300, "lr": 0.1, "rho": 0.3, **settings})


def progressing(**settings):
    return run(Quadratic([1.0, 0.01]), [2.0, 9.0], **{"steps": 200, "rho": 0.05, **settings})


def point(optimizer):
    return optimizer.param_groups[0]["params"][0].detach()
