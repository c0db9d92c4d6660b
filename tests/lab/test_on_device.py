"""The laboratory on a GPU that is pretended, with the rules of CUDA: all studies find their way there.

Here every study runs a few cells, those with many small steps for fewer steps. Whole studies take minutes:
`PYTHONPATH=tests python -m support.every_study`.
"""

import numpy as np
import pytest
import torch
import xarray as xr
from support.accelerator import Accelerator, deterministic, introduce, within
from support.every_study import compute_on_device, failures, pretended_gpu

from samirage.lab import train as one_network
from samirage.lab.cifar import network_of, pictures_of, recipe_of, settings
from samirage.lab.ensemble import Recipe, train
from samirage.lab.loop import ImageTraining
from samirage.lab.models import MLP, softmax_squared
from samirage.lab.names import STUDIES
from samirage.lab.runtime import compute
from samirage.lab.stacked import stack
from samirage.lab.studies import create
from samirage.monitor import Watch
from samirage.sam import Guard, Jump, WarmStart

SHORTER = {
    "wells": {"steps": 30},
    "toy": {"steps": 60, "grid": 9},
    "network": {"steps": 40, "grid": 5},
    "construction": {"grid": 13},
}


def nothing(passes):
    pass


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_computes_on_a_gpu_what_it_computes_on_a_cpu(name):
    options = {"threads": 1, **SHORTER.get(name, {})}
    (on_cpu,) = create([name], "smoke", options)
    cells = on_cpu.cells()
    chosen = {cells[i].name: cells[i] for i in (0, len(cells) // 2, -1)}
    with pretended_gpu():
        (study,) = create([name], "smoke", options | {"device": "cuda"})
        results = [compute_on_device(lambda cell=cell: study.run(cell, nothing), threads=1) for cell in chosen.values()]
    for cell, result in zip(chosen.values(), results, strict=True):
        xr.testing.assert_allclose(result, compute(lambda cell=cell: on_cpu.run(cell, nothing), threads=1), rtol=1e-3)
