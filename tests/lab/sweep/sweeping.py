"""Small studies for the tests of sweeps; in a module of their own, because other processes import them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from samirage.lab.results.claims import Claim, Relation
from samirage.lab.studies.base import AbstractStudy, Cell


class Squares(AbstractStudy):
    """Cell k holds k². Some cells fail, or end their process, as often as `trouble` says."""

    name = "squares"

    def __init__(self, count: int, trouble: tuple[tuple[str, str], ...] = (), notes: str = "", wait: float = 0.0):
        self.count, self.trouble, self.notes, self.wait = count, dict(trouble), notes, wait

    config = property(lambda self: {"count": self.count})
    seeds = property(lambda self: [0])
    device = property(lambda self: torch.device("cpu"))
    threads = property(lambda self: 1)

    def cells(self):
        return [Cell(f"c{k}", 10, {"k": k}) for k in range(self.count)]

    def run(self, cell, advance):
        if self.notes:
            with open(self.notes, "a", encoding="utf-8") as file:
                file.write(f"{cell.name} {os.getpid()}\n")
        time.sleep(self.wait)
        trouble = self.trouble.get(cell.name)
        if trouble == "error":
            raise KeyError("no luck")
        if trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "kill once" and Path(self.notes).read_text().count(f"{cell.name} ") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(4)
        advance(6)
        return xr.Dataset({"square": ("seed", [cell.settings["k"] ** 2])}, {"seed": np.array([0])})

    def claims(self, results, command):
        total = sum(int(cell.square.sum()) for cell in results.values())
        return [
            Claim(statement="sum", source="ours", relation=Relation.AT_LEAST, expected=0, measured=total,
                  standard_error=0, n=len(results), command=command)
        ]  # fmt: skip
