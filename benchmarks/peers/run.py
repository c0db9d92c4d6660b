"""Run every implementation through every behaviour, and store what happened under results/peers/.

Usage: run.py [--davda54 REPOSITORY] [--composer REPOSITORY] [--only NAME …], with copies of the two repositories that
are compared by their files; without, these are downloaded. First: pip install -r benchmarks/peers/requirements.txt.
"""

import argparse
import platform
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.adapters import Composer, Davda54, Peer, PytorchOptimizer, Samirage
from benchmarks.peers.behaviours import BEHAVIOURS
from benchmarks.peers.outcome import Outcome, observed, store
from benchmarks.peers.sources import COMPOSER, DAVDA54, fetch

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = ("samirage", "davda54", "pytorch-optimizer", "composer")
_SIGNS: Final = {True: "yes", False: "NO", None: "–"}


def outcomes_of(peer: Peer) -> dict[str, Outcome]:
    """Run one implementation through every behaviour."""
    found = {}
    for behaviour in BEHAVIOURS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            found[behaviour.key] = outcome = observed(lambda probe=behaviour.probe: probe(peer))  # type: ignore[misc]
        print(f"{peer.title:18} {behaviour.key:24} {_SIGNS[outcome.holds]:4} {outcome.figure}", flush=True)
    return found


def peer_named(name: str, folder: Path, repository: Path | None) -> Peer:
    """Return an implementation.

    Args:
        name: One of `NAMES`.
        folder: Where to put files that must be fetched.
        repository: Where to take them from; None to download them.
    """
    if name == "davda54":
        return Davda54(fetch(DAVDA54, folder, repository))
    if name == "composer":
        return Composer(fetch(COMPOSER, folder, repository))
    return Samirage({}) if name == "samirage" else PytorchOptimizer({})


def main(arguments: list[str] | None = None) -> None:
    """Run and store.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("davda54", "composer"):
        parser.add_argument(f"--{name}", type=Path, metavar="REPOSITORY", help="a git repository that has its files")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "peers", help="folder to write to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    environment = {"python": platform.python_version(), "torch": torch.__version__, "numpy": version("numpy")}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            peer = peer_named(name, Path(folder), getattr(options, name, None))
            found = outcomes_of(peer)
            path = options.out / f"{name}.json"
            store(path, title=peer.title, source=peer.source, versions=environment, outcomes=found)


if __name__ == "__main__":
    main()
