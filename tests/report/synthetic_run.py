"""A synthetic run folder that behaves as the study does: SAM collapses at large radii, the switch does not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.store import RunFolder

RHOS = (0.05, 0.2, 0.5, 1.0, 3.0, 10.0)
COMMAND = "samirage reproduce mnist --scale laptop --out 'runs/<first>'"


def make_cell(
    method: str, rho: float, seeds: Sequence[int], *, steps: int = 600, every: int = 2, diverged: Sequence[int] = ()
) -> xr.Dataset:
    """Runs of one method at one radius; the numbers depend on method, radius and seed alone."""
    step = np.arange(0, steps, every)
    eval_step = np.append(np.arange(0, steps, 20), steps)
    switch_step = steps // 10
    shape = (len(seeds), step.size)
    loss, grad, ratio = np.empty(shape), np.empty(shape), np.full(shape, np.nan)
    accuracy = np.empty((len(seeds), eval_step.size))
    stuck = np.zeros(len(seeds), dtype=bool)
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng([seed, int(rho * 1000), len(method)])
        stuck[i] = method == "sam" and (rho >= 10 or (rho >= 3 and rng.random() < 0.7))
        noise = np.exp(np.cumsum(rng.normal(0, 0.03, step.size)) * 0.15)
        time = step / steps
        plain = 0.9 * np.exp(-5.5 * time ** (0.6 + 0.1 * rng.random())) + 0.004
        level = 0.55 + 0.3 * rng.random()
        loss[i] = noise * (level + 0.2 * np.exp(-20 * time) if stuck[i] else plain + (0.01 * rho if rho > 1 else 0))
        grad[i] = noise * (1.0 + rng.random() + 1.5 * time if stuck[i] else 0.6 * np.exp(-3 * time) + 0.02)
        end = 10 ** rng.uniform(-4.5, -3) if stuck[i] else 1.0 + 0.3 * rng.random()
        active = np.ones(step.size, dtype=bool) if method == "sam" else step >= switch_step
        if method != "sgd":
            fall = np.minimum(1.0, time / 0.3) if stuck[i] else 1.0
            ratio[i] = np.where(active, noise**2 * end**fall, np.nan)
        goal = 0.06 + 0.08 * rng.random() if stuck[i] else 0.84 - 0.012 * rho + 0.01 * rng.normal()
        accuracy[i] = 0.1 + (goal - 0.1) * (1 - np.exp(-9 * eval_step / steps)) + rng.normal(0, 0.002, eval_step.size)
        if seed in diverged:
            loss[i, step.size // 2 :] = grad[i, step.size // 2 :] = ratio[i, step.size // 2 :] = np.nan
            accuracy[i, eval_step.size // 2 :] = 0.1
            stuck[i] = False
    over = ("seed", "step")
    attrs: dict[str, Any] = {"study": "mnist", "method": method, "rho": rho, "loss_name": "softmax-squared", "lr": 1.0}
    if method == "switch":
        attrs["switch_step"] = switch_step
    late = slice(int(0.9 * step.size), None)
    return xr.Dataset(
        {
            **{name: (over, loss.astype(np.float32)) for name in ("loss", "loss_plus")},
            "grad_norm": (over, grad.astype(np.float32)),
            "grad_plus_norm": (over, (grad * ratio).astype(np.float32)),
            "shift_ratio": (over, ratio.astype(np.float32)),
            **{n: (over, np.ones(shape, np.float32)) for n in ("ascent_gain", "slope_plus", "cosine", "radius")},
            "test_accuracy": (("seed", "eval_step"), accuracy.astype(np.float32)),
            "final_loss": ("seed", loss[:, -1].astype(np.float32)),
            "final_test_accuracy": ("seed", accuracy[:, -1].astype(np.float32)),
            "final_shift_ratio": ("seed", np.median(ratio[:, late], axis=1).astype(np.float32)),
            "final_grad_norm": ("seed", np.median(grad[:, late], axis=1).astype(np.float32)),
            "hallucinated": ("seed", stuck),
            "diverged": ("seed", np.isin(seeds, diverged)),
            "wall_seconds": ((), 2.5),
        },
        coords={"seed": list(seeds), "step": step, "eval_step": eval_step},
        attrs=attrs,
    )


def make_claims() -> list[Claim]:
    return [
        Claim(
            statement="With SAM alone at ρ = 10, at least 90% of the seeds stop at a hallucinated point",
            source="Figure 4", relation=Relation.AT_LEAST, expected=90, measured=100, standard_error=0, n=16, unit="%",
            command=COMMAND,
        ),
        Claim(
            statement="Switching reaches the accuracy of plain training at ρ = 10 <within 1 point>",
            source="ours", relation=Relation.EQUAL_WITHIN, expected=83.1, tolerance=1, measured=72.1,
            standard_error=0.42, n=16, unit="%", command=COMMAND,
        ),
        Claim(
            statement="SAM reaches 77.05% on CIFAR-100", source="Figure 5", relation=Relation.EQUAL_WITHIN,
            expected=77.05, tolerance=0.3, measured=float("nan"), standard_error=float("nan"), n=0, unit="%",
            comparable=False, reason="this run is on other data", command=COMMAND,
        ),
    ]  # fmt: skip


def make_folder(
    path: Path,
    *,
    rhos: Sequence[float] = RHOS,
    blocks: Sequence[Sequence[int]] = (range(8), range(8, 16)),
    skip: Callable[[str, float, int], bool] = lambda method, rho, block: False,
    diverged: Sequence[int] = (),
    claims: bool = True,
    steps: int = 600,
) -> RunFolder:
    """Write a run folder of study `mnist`; `skip` says which cells have not finished."""
    cells = [("sgd", 0.0, b) for b in range(len(blocks))]
    cells += [(method, rho, b) for method in ("sam", "switch") for rho in rhos for b in range(len(blocks))]
    names = {key: f"{key[0]}_rho{key[1]:g}_seeds{blocks[key[2]][0]}-{blocks[key[2]][-1]}" for key in cells}
    folder = RunFolder(path)
    folder.write_manifest("mnist", {
        "config": {
            "scale": "laptop", "loss": "softmax-squared", "width": 32, "hidden": 1, "images": 1000, "steps": steps,
            "lr": 1.0, "rhos": list(rhos), "switch_fraction": 0.1, "batch_size": None, "data": "mnist-mini",
            "device": "cpu", "threads": 2, "dtype": "float32",
        },
        "seeds": [seed for block in blocks for seed in block],
        "versions": {"python": "3.11.7", "samirage": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "Example <CPU> & Co", "cores": 2, "memory_gib": 7.6},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "command": COMMAND,
        "started": "2026-01-02T03:04:05+00:00",
        "cells": list(names.values()),
    })  # fmt: skip
    for (method, rho, block), name in names.items():
        if not skip(method, rho, block):
            folder.write_cell("mnist", name, make_cell(method, rho, blocks[block], diverged=diverged, steps=steps))
    if claims:
        folder.write_claims("mnist", make_claims())
    return folder
