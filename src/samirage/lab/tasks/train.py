"""Train one network of study `cifar`, in one process or in many on many machines.

```
python -m samirage.lab.tasks.train --scale smoke --method sam --rho 0.3 --out run.nc
torchrun --nproc-per-node 2 -m samirage.lab.tasks.train --scale smoke --method sam --rho 0.3 --parallel ddp --out run.nc
```

The batch is that of the scale for any number of processes: each computes its part, and batch normalisation and SAM see
the whole. The result is that of one process, up to rounding.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final, NoReturn

import torch
from torch import distributed

from samirage.errors import UserError
from samirage.files import whole_file
from samirage.lab.engine.compute import commit, compute, hardware, usable_device, versions
from samirage.lab.results.constants import MAX_SEED
from samirage.lab.results.netcdf import write_dataset
from samirage.lab.tasks.cifar import (
    METHODS,
    SCALES,
    CifarConfig,
    attributes_of,
    network_of,
    pictures_of,
    recipe_of,
    settings,
)
from samirage.lab.tasks.loop import ImageTraining
from samirage.lab.tasks.process_group import (
    PARALLEL,
    AbstractProcessGroup,
    DistributedProcessGroup,
    SingleProcess,
    is_launched_by_torchrun,
)

_INTERRUPTED: Final = 130  # what a shell reports for a program that Ctrl-C ended
_GRACE_S: Final = 15.0  # in which torchrun ends the other ranks, before they report the same error


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says.

    Args:
        arguments: What follows the name of the module; by default, the process's own arguments.

    Returns:
        The exit code: 0 for success, 1 when the training failed, 2 for bad input, 130 when interrupted.

    Example:
        >>> main(["--method", "sam", "--rho", "-1", "--out", "run.nc"])
        2
    """
    rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")) if is_launched_by_torchrun() else (0, 1)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(given)
        config = _config(options, size)
    except UserError as error:
        if rank:  # all ranks fail alike, and torchrun ends the others when rank 0 has printed its error
            time.sleep(_GRACE_S)
        print(f"samirage: {error}", file=sys.stderr)
        return 2
    stop = Event()
    try:
        compute(partial(_train, options, config, given, stop), threads=config.threads, stop=stop)
    except KeyboardInterrupt:
        print(f"samirage: {_prefix(rank, size)}stopped; no result", file=sys.stderr)
        return _INTERRUPTED
    except UserError as error:
        print(f"samirage: {_prefix(rank, size)}{error}", file=sys.stderr)
        return 2
    except (RuntimeError, ArithmeticError, MemoryError, OSError) as error:
        message = str(error).strip() or type(error).__name__
        if size > 1 and ("peer" in message or "onnection" in message):  # another rank has failed, and reports why
            time.sleep(_GRACE_S)
        first = message.splitlines()[0]
        print(f"samirage: {_prefix(rank, size)}failed ({type(error).__name__}: {first}); no result", file=sys.stderr)
        return 1
    return 0


def _prefix(rank: int, size: int) -> str:
    return f"rank {rank} of {size}: " if size > 1 else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise a `UserError`; argparse itself would print the usage on every rank.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; see `python -m samirage.lab.tasks.train --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="samirage.lab.tasks.train",
        description="Train one network of study cifar, in one process or, under torchrun, in many.",
        epilog="example: torchrun --nproc-per-node 2 -m samirage.lab.tasks.train --scale smoke --out run.nc",
    )
    parser.add_argument("--scale", choices=tuple(SCALES), default="smoke", help="preset (default: smoke)")
    parser.add_argument("--method", choices=METHODS, default="sam", help="how to train (default: sam)")
    parser.add_argument(
        "--rho", type=float, default=0.3, metavar="RHO", help="perturbation radius, above 0 (default: 0.3)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed, at least 0 (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs, at least 1 (default: by scale)")
    parser.add_argument(
        "--parallel",
        choices=PARALLEL,
        default="ddp",
        help="how the network is distributed over the processes: a copy each (ddp, default) or a shard of every "
        "parameter (fsdp)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cpu (default), or a GPU per process")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads per process (default: 1)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the CIFAR-100 binary files")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="NetCDF file for the results")
    return parser


def _config(options: argparse.Namespace, size: int) -> CifarConfig:
    for name, least in (("seed", 0), ("epochs", 1), ("threads", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be a whole number of at least {least}; got {value}")
    if options.seed > MAX_SEED:
        raise UserError(f"--seed must be at most {MAX_SEED}; got {options.seed}")
    if not 0 < options.rho < float("inf"):
        raise UserError(f"--rho must be a finite radius above 0; got {options.rho:g}; plain SGD is --method sgd")
    if os.path.isdir(options.out):  # which, unlike Path.is_dir, takes any name
        raise UserError(f"--out {options.out} is a folder: name a file, such as {options.out / 'run.nc'}")
    overrides = {
        "first_seed": options.seed,
        "seeds": 1,
        "rhos": (options.rho,),
        "epochs": options.epochs,
        "device": options.device,
        "threads": options.threads,
    }
    config = settings(options.scale, {name: value for name, value in overrides.items() if value is not None})
    if config.batch_size % size:
        raise UserError(
            f"{size} processes cannot share a batch of {config.batch_size} evenly: start a number of processes that "
            f"divides {config.batch_size}"
        )
    return config


def _train(options: argparse.Namespace, config: CifarConfig, given: Sequence[str], stop: Event) -> None:
    device = usable_device(config.device)
    if device.type == "cuda":
        device = usable_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)  # holds for this thread
    pictures = pictures_of(config, device, options.data_dir)
    group: AbstractProcessGroup = SingleProcess()
    if is_launched_by_torchrun():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        group = DistributedProcessGroup(options.parallel)
    if group.rank == 0:
        _require_writable(options.out)  # now, and not after hours of training
    recipe = recipe_of(config, options.method, options.rho, options.seed)
    training = ImageTraining(
        network_of(config, options.seed, device),
        pictures,
        recipe,
        weight_decay=config.weight_decay,
        ways=config.ways,
        group=group,
    )

    def report(step: int, loss: float, accuracy: float) -> None:
        if group.rank == 0:
            done = step // training.steps_per_epoch
            print(f"epoch {done} of {config.epochs}: loss {loss:.4g}, test accuracy {100 * accuracy:.2f} %", flush=True)

    def check_stop(passes: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    begun = time.perf_counter()
    results = training.run(options.seed, check_stop, report).assign(wall_seconds=time.perf_counter() - begun)
    attributes = {
        **attributes_of(config, options.method, recipe),
        "processes": group.size,
        "parallel": options.parallel if is_launched_by_torchrun() else "none",
        "config": json.dumps(asdict(config)),
        "versions": json.dumps(versions()),
        "hardware": json.dumps(hardware(device)),
        "commit": commit() or "",
        "command": shlex.join(["samirage.lab.tasks.train", *given]),
    }
    if group.rank == 0:
        write_dataset(options.out, results.assign_attrs(attributes))
        print(f"The results: {options.out.resolve()}", flush=True)
    if is_launched_by_torchrun():
        distributed.barrier()
        distributed.destroy_process_group()


def _require_writable(path: Path) -> None:
    with whole_file(path.with_name(f"{path.name}.trial")) as temporary:
        temporary.touch()
    path.with_name(f"{path.name}.trial").unlink()


if __name__ == "__main__":
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # Without the interpreter's own shutdown, which threads of gloo now and then abort when all is done, and which would
    # wait for the other ranks after a failure.
    os._exit(code)
