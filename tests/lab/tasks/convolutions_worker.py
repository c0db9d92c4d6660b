"""Run by test_convolutions.py, for each instruction set in a process of its own: gradients in channels-last memory.

Prints, one JSON object a line, how far each network's gradients in float32 and channels-last memory are from those in
float64 and contiguous memory.
"""

import json
from types import SimpleNamespace

import torch
from torch.nn import functional

from benchmarks.workloads import workloads
from samirage.lab.tasks import resnet
from samirage.lab.tasks.cifar import SCALES
from samirage.lab.tasks.resnet import ResNet18

IMAGES = 4
REPEATS = 20  # of narrow networks: a heap that was written to is often found out only later


def cases():
    """Width, pixels and threads of every residual network of a scale or a benchmark, and of one with larger images."""
    for config in SCALES.values():
        yield config.width, config.size, 1
    for tiny in (True, False):
        workload = next(one for one in workloads(tiny=tiny) if one.key == "resnet18")
        yield workload.model().stem.out_channels, workload.batch()[0].shape[-1], 1
    yield 16, 32, 1  # benchmarks/landscape.py
    yield 4, 64, 4  # where AVX-512 is hit as well


def gradients(network, x, labels):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    loss = functional.cross_entropy(network(x), labels)
    return torch.autograd.grad(loss, [x, *network.parameters()])


def error(width, size):
    """The largest relative error of a gradient: of the images, or of a parameter."""
    torch.manual_seed(0)
    network, oracle = ResNet18(10, width=width), ResNet18(10, width=width).double()
    oracle.load_state_dict(network.state_dict())
    x, labels = torch.randn(IMAGES, 3, size, size), torch.randint(10, (IMAGES,))
    wanted = gradients(oracle, x.double(), labels)
    network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    found = [gradients(network, x, labels) for _ in range(REPEATS if width < 16 else 1)]
    return max(((a - b).norm() / b.norm()).item() for one in found for a, b in zip(one, wanted, strict=True))


if __name__ == "__main__":
    resnet.functional = SimpleNamespace(relu=functional.silu)  # smooth: no slope that a rounding changes
    for width, size, threads in sorted(set(cases())):
        torch.set_num_threads(threads)
        print(json.dumps({"width": width, "size": size, "threads": threads, "error": error(width, size)}), flush=True)
