"""How fast study `cifar` trains its ResNet-18, and what SAM costs there: images per second, epochs, share of the peak.

Usage: resnet.py [--scale smoke|laptop|paper] [--device cpu|cuda] [--rounds N] [--peak TFLOPS] [--eager] [--out FILE]

The network, the batches and the precision are the study's own; the images are artificial, for time does not depend on
what they show, and nothing needs to be downloaded. All contenders train for one epoch in turn, in an order drawn anew
for each round, so that a ratio compares two epochs of the same round.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import Spread, spread, times_in_turn
from samirage.lab.engine.compute import compute, hardware, usable_device, versions
from samirage.lab.tasks.cifar import SCALES, CifarConfig, network_of, recipe_of, settings
from samirage.lab.tasks.image_data import Pictures, synthetic
from samirage.lab.tasks.loop import ImageTraining

# Name → (method, whether it is watched for a diagnosis, as in the study).
CONTENDERS: Final[Mapping[str, tuple[str, bool]]] = {
    "SGD": ("sgd", False),
    "SAM": ("sam", False),
    "SAM, watched": ("sam", True),
    "SAM with guard, watched": ("guard", True),
}
GOAL: Final = 2.05  # an epoch of SAM by one of SGD: two gradients instead of one, and little else

# Peak of dense products in bfloat16 with sums in float32, in TFLOP/s, from NVIDIA's data sheets of these GPUs ("with
# sparsity", as they print it, is twice as much). The first name that occurs in that of the device counts.
PEAKS: Final[Mapping[str, float]] = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}


@dataclass(frozen=True)
class Speed:
    """How fast one contender trains.

    Attributes:
        epoch_seconds: Time of an epoch.
        images_per_s: Training images by that time, of whole batches.
        ratio: Time of an epoch by that of SGD in the same round.
        share: Operations of the network per second by the peak of the device; None where that is not known.
    """

    epoch_seconds: Spread
    images_per_s: float
    ratio: Spread
    share: float | None


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and store what was measured.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SCALES), default="laptop", help="network and batch [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each contender that count [%(default)s]")
    parser.add_argument("--images", type=int, help="images in an epoch [by scale]")
    parser.add_argument("--peak", type=float, help="the device's peak in bfloat16, in TFLOP/s [by name of the GPU]")
    parser.add_argument("--eager", action="store_true", help="do not compile the network")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads [%(default)s]")
    parser.add_argument("--out", type=Path, help="file to write what was measured to, as JSON")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, for a spread; got {options.rounds}")
    overrides = {"device": options.device, "threads": options.threads, "images": options.images}
    config = settings(options.scale, {name: value for name, value in overrides.items() if value is not None})
    if options.eager:
        config = settings(options.scale, {**asdict(config), "compiled": False})
    if config.images < config.batch_size:
        parser.error(f"--images must fill a batch of {config.batch_size}; got {config.images}")
    device = usable_device(config.device)
    peak = options.peak or known_peak(device)
    load = os.getloadavg()[0]
    measured = compute(partial(measure, config, device, options.rounds, peak), threads=config.threads)
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["benchmarks/resnet.py", *(sys.argv[1:] if arguments is None else arguments)]),
        "versions": {name: versions()[name] for name in ("python", "samirage", "torch")},
        "hardware": hardware(device),
        "config": asdict(config),
        "peak_tflop_per_s": peak,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        **measured,
    }
    show(Console(width=120), results)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def known_peak(device: torch.device) -> float | None:
    """Return the peak of a device in bfloat16, in TFLOP/s, if the table has it.

    Args:
        device: The device.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def measure(config: CifarConfig, device: torch.device, rounds: int, peak: float | None) -> dict[str, Any]:
    """Measure all contenders.

    Args:
        config: What is trained.
        device: Where.
        rounds: Epochs of each that count.
        peak: Peak of the device, in TFLOP/s, if it is known.

    Returns:
        Operations of one gradient per image, parameters and, by contender, `Speed` as dictionaries.
    """
    pictures = Pictures(synthetic(classes=config.classes, images=config.images, size=config.size, seed=0), device)
    long = settings(config.scale, {**asdict(config), "epochs": rounds + 1})
    trainings = {
        name: ImageTraining(
            network_of(long, 0, device),
            pictures,
            recipe_of(long, method, config.rhos[0], 0),
            weight_decay=config.weight_decay,
            ways=config.ways,
            watched=watched,
        )
        for name, (method, watched) in CONTENDERS.items()
    }
    # An epoch ends with its course on the CPU: what the device had to do is done by then.
    times = times_in_turn({name: training.epoch for name, training in trainings.items()}, rounds=rounds)
    images = trainings["SGD"].steps_per_epoch * config.batch_size
    operations = flops_per_image(config)
    speeds = {}
    for name, (method, _) in CONTENDERS.items():
        seconds = spread(times[name])
        rate = images / seconds.median
        gradients = 1 if method == "sgd" else 2
        speeds[name] = Speed(
            epoch_seconds=seconds,
            images_per_s=rate,
            ratio=spread([a / b for a, b in zip(times[name], times["SGD"], strict=True)]),
            share=None if peak is None else rate * gradients * operations / (1e12 * peak),
        )
    return {
        "parameters": sum(p.numel() for p in network_of(config, 0, torch.device("cpu")).parameters()),
        "flop_per_image_and_gradient": operations,
        "images_per_epoch": images,
        "contenders": {name: asdict(speed) for name, speed in speeds.items()},
    }


def flops_per_image(config: CifarConfig) -> float:
    """Count the operations of one gradient, forward and backward, per image: two for a product and its sum.

    Args:
        config: Which network, and the size of the images.
    """
    network, images = network_of(config, 0, torch.device("cpu")), 2
    x = torch.zeros(images, 3, config.size, config.size)
    with FlopCounterMode(display=False) as counter:
        loss = functional.cross_entropy(network(x), torch.zeros(images, dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops() / images)


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Print what was measured.

    Args:
        console: Where to.
        results: What `main` stores.
    """
    machine, config = results["hardware"], results["config"]
    where = machine.get("gpu") or f"{machine['processor']}, {config['threads']} of {machine['cores']} cores"
    peak = results["peak_tflop_per_s"]
    console.print(
        f"{where}; load {results['load_before']:.1f} before, {results['load_after']:.1f} after; torch "
        f"{results['versions']['torch']}, {'bfloat16' if config['bfloat16'] else 'float32'}, "
        f"{'compiled' if config['compiled'] else 'eager'}; peak {f'{peak:g} TFLOP/s' if peak else 'unknown'}"
    )
    table = Table(
        title=f"ResNet-18 of width {config['width']}, {config['size']}×{config['size']} pixels, batches of "
        f"{config['batch_size']}"
    )
    for heading in ("epoch of", "s", "images/s", "by SGD", "quartiles", "n", "of peak"):
        table.add_column(heading, justify="left" if heading == "epoch of" else "right")
    for name, speed in results["contenders"].items():
        ratio, share = speed["ratio"], speed["share"]
        table.add_row(
            name,
            f"{speed['epoch_seconds']['median']:.3g}",
            f"{speed['images_per_s']:,.0f}",
            f"{ratio['median']:.3f}",
            f"{ratio['low']:.3f}–{ratio['high']:.3f}",
            f"{ratio['n']}",
            "–" if share is None else f"{100 * share:.1f} %",
        )
    console.print(table)
    console.print(
        f"{results['parameters']:,} parameters, {results['flop_per_image_and_gradient'] / 1e9:.3g} GFLOP per image and "
        "gradient."
    )
    reached = results["contenders"]["SAM"]["ratio"]["median"]
    console.print(
        f"by SGD: time of an epoch by that of SGD in the same round; the goal for SAM is at most {GOAL}, and it is "
        f"{'reached' if reached <= GOAL else 'missed'} here\n"
        f"({reached:.3f}). of peak: operations of convolutions and products per second by the device's peak."
    )


if __name__ == "__main__":
    main()
