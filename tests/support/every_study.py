"""Run studies on the pretended GPU, each as `samirage reproduce --scale smoke --device cuda` would.

    python -m tests.support.every_study [STUDY ...]

runs whole studies, all by default, and says for each how many of its cells failed, and why.
"""

import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from samirage.lab.engine.compute import compute
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import STUDIES, create
from samirage.lab.sweep.reproduce import reproduce
from tests.support.accelerator import Accelerator, introduce, within

# Waiting is no mistake here: studies store what they measure.
compute_on_device = within(partial(Accelerator, may_wait=True), compute)


@contextmanager
def pretended_gpu():
    """Let the laboratory find a GPU."""
    with pytest.MonkeyPatch.context() as patch, Accelerator(may_wait=True):
        introduce(patch)
        patch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)  # the laboratory has to set it
        for module in ("sweep.run_task", "tasks.train"):
            patch.setattr(f"samirage.lab.{module}.compute", compute_on_device)
        yield


def failures(name, place):
    """Run a whole study, and return what is wrong.

    Args:
        name: Name of the study.
        place: New folder for the results.
    """
    with pretended_gpu():
        (study,) = create([name], "smoke", {"device": "cuda", "threads": 1})
        folder = RunFolder(place)
        failed = reproduce([study], folder, command=f"samirage reproduce {name} --scale smoke --device cuda")
        wrong = [f"{outcome.task.name}: {outcome.error}" for outcome in failed]
        missing = {cell.name for cell in study.cells()} - set(folder.finished(name))
        assert len(missing) == len(wrong)
        return wrong


def main(names):
    """Run studies and print what became of them.

    Args:
        names: Their names; none means all.
    """
    worst = 0
    for name in names or STUDIES:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            wrong = failures(name, Path(folder) / name)
        print(f"{name}: {len(wrong)} cells failed, {time.perf_counter() - begun:.0f} s", *wrong, sep="\n  ", flush=True)
        worst = worst or bool(wrong)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
