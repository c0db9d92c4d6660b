"""The numbers that decide what a result is called: that they are used where they should be, and stored with results."""

import numpy as np
import pytest
import torch

from samirage.lab.engine import line_scan
from samirage.lab.results import constants
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.tasks import mnist


@pytest.mark.parametrize(("name", "cell"), [("batch", 0), ("wells", 0), ("small-rho", 0), ("cifar", 2)])
def test_what_a_run_was_judged_by_is_stored_with_it(name, cell, tmp_path):
    one = create([name], "smoke", {"threads": 1, **({"seeds": 1} if name == "cifar" else {})})[0]
    what = one.cells()[cell]
    folder = RunFolder(tmp_path)
    folder.write_cell(name, what.name, one.run(what, lambda passes: None))
    stored = folder.read_cell(name, what.name)["hallucinated"].attrs
    assert {key: stored[key] for key in constants.JUDGED_BY} == dict(constants.JUDGED_BY)
    assert stored["hallucinated_shift_ratio"] == 0.1


def test_the_threshold_of_the_constants_decides_what_is_hallucinated(monkeypatch):
    course = {name: torch.full((40, 1), value) for name, value in
              {"loss": 1.0, "shift_ratio": 0.12, "radius": 1.0, "grad_norm": 1.0}.items()}  # fmt: skip
    course["passes"] = torch.full((40, 1), 2)
    assert not mnist.state_at_end(course)["hallucinated"].item()
    rays = line_scan.Rays(*(torch.tensor(v) for v in ([0.5], [1.0], [1.0], [[0.12]], [[0.5]])))
    assert rays.mirage.item() == np.inf
    for module in (mnist, line_scan):
        monkeypatch.setattr(module, "HALLUCINATED_SHIFT_RATIO", 0.15)
    assert mnist.state_at_end(course)["hallucinated"].item()
    assert rays.mirage.item() == 0.5
