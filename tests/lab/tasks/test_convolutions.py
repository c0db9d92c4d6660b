"""Gradients of convolutions in channels-last memory, where oneDNN has an error that these networks must not meet.

The gradient of the weights of a strided 1×1 convolution with few input channels writes past its workspace there
(uxlfoundation/oneDNN#6035). Each instruction set has its own code in oneDNN, and is imitated in a process of its own,
which a corrupted heap then ends.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.workloads import workloads
from samirage.lab.engine.networks import NETWORKS
from samirage.lab.tasks.cifar import SCALES, network_of

ROOT = Path(__file__).parents[3]
# Between 4e-6 and 4e-5 were measured: roundings of float32, enlarged by 20 batch normalisations. A gradient that reads
# what another thread wrote is off by a third.
BOUND = 5e-4


@pytest.mark.parametrize("instructions", ["AVX2", "DEFAULT"])
def test_gradients_in_channels_last_memory_are_those_of_contiguous_memory(instructions):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions, "PYTHONPATH": path}
    command = [sys.executable, str(Path(__file__).with_name("convolutions_worker.py"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended by signal {-done.returncode} after {found}: {done.stderr[-3000:]}"
    assert {4, 16, 64} <= {case["width"] for case in found}
    assert [case for case in found if not case["error"] < BOUND] == []


class Convolutions(TorchDispatchMode):
    """Kernel size and stride of every convolution that is run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            _, weight, _, stride = args[:4]
            self.seen.append((tuple(weight.shape[2:]), tuple(stride)))
        return func(*args, **(kwargs or {}))


def networks():
    for name, make in NETWORKS.items():
        yield name, lambda make=make: (make(784, 10), torch.zeros(2, 784))
    for scale, config in SCALES.items():
        images = (2, 3, config.size, config.size)
        yield (
            scale,
            lambda config=config, images=images: (
                network_of(config, 0, torch.device("cpu")),
                torch.zeros(images),
            ),
        )
    for workload in workloads(tiny=True):
        yield workload.key, lambda workload=workload: (workload.model(), workload.batch()[0])


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in networks()])
def test_no_convolution_of_one_pixel_is_strided(make):
    network, x = make()
    with torch.no_grad(), Convolutions() as convolutions:
        network(x)
    assert [one for one in convolutions.seen if one[0] == (1, 1) and one[1] != (1, 1)] == []


def test_a_strided_convolution_of_one_pixel_is_seen():
    with Convolutions() as convolutions:
        torch.nn.Conv2d(4, 8, 1, stride=2)(torch.zeros(1, 4, 8, 8))
    assert convolutions.seen == [((1, 1), (2, 2))]
