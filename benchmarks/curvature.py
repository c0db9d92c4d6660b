"""What a certificate costs, and a Hessian-vector product beside those of PyHessian and hessian-eigenthings.

Usage: curvature.py [--tiny] [--threads N] [--rounds N] [--out FILE]

The network is a 784-1024-256-10 tanh network (about a million parameters) with cross-entropy on MNIST digits, float32.
The peers average over batches, each in its own way, so that all batches are of one length here.
"""

import argparse
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hessian_eigenthings.loss_fns import supervised_loss
from hessian_eigenthings.operators import HessianOperator
from pyhessian.hessian import hessian as PyHessian
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import medians_in_turn
from samirage.lab.data.datasets import load
from samirage.lab.engine.compute import compute, default_threads, hardware, versions
from samirage.lab.engine.models import MLP
from samirage.landscape import Linearized, Objective, Smooth
from samirage.points import Certificate, certify

WIDTHS, EXAMPLES, BATCHES = (784, 1024, 256, 10), 5000, 8
TINY_WIDTHS, TINY_EXAMPLES = (784, 64, 10), 200
RHO = 0.5
FOLLOWING = 20  # products that follow one linearization

Batches = list[tuple[Tensor, Tensor]]


def network(widths: tuple[int, ...]) -> nn.Module:
    """Return the network, freshly initialised."""
    torch.manual_seed(0)
    return MLP(widths)


def digits(count: int, batches: int) -> Batches:
    """Return the first so many digits of `mnist-mini`, in batches of one length."""
    data = load("mnist-mini")
    x = torch.tensor(data.train_images[:count].reshape(count, -1), dtype=torch.float32) / 255
    labels = torch.tensor(data.train_labels[:count]).long()
    return list(zip(x.chunk(batches), labels.chunk(batches), strict=True))


# --- the certificate ---------------------------------------------------------------------------------


class Timed:
    """An objective that measures how long its fast Hessian products take."""

    def __init__(self, f: Objective) -> None:
        self._f = f
        self.seconds = 0.0
        self.products = 0
        self.dim = f.dim
        self.grad, self.value_and_grad, self.hvp, self.hessian = f.grad, f.value_and_grad, f.hvp, f.hessian

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss."""
        return self._f(x)

    def linearize(self, x: Tensor) -> Linearized:
        """Return gradient and product, the latter timed."""
        own = self._f.linearize(x)

        def timed(v: Tensor) -> Tensor:
            begun = time.perf_counter()
            product = own.hvp(v)
            self.seconds += time.perf_counter() - begun
            self.products += 1
            return product

        return Linearized(own.grad, timed)


@dataclass(frozen=True)
class CertificationCost:
    """What one certificate cost.

    Attributes:
        certificate: The certificate.
        seconds: Wall time of the whole.
        product_seconds: Wall time of the Hessian-vector products in it.
        products: Their number.
        peak_mb: How much the peak of the resident memory rose, in 10⁶ bytes.
    """

    certificate: Certificate
    seconds: float
    product_seconds: float
    products: int
    peak_mb: float

    @property
    def ratio(self) -> float:
        """The whole by the products."""
        return self.seconds / self.product_seconds


def certification(widths: tuple[int, ...], examples: int) -> CertificationCost:
    """Measure one certificate."""
    f = Objective(network(widths), nn.CrossEntropyLoss(), digits(examples, 1))
    timed = Timed(f)
    checked: Smooth = timed
    x = f.flat_parameters()
    f.grad(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    certificate = certify(checked, x, RHO, lr=0.1)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return CertificationCost(certificate, seconds, timed.seconds, timed.products, peak * 1024 / 1e6)


# --- the product -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProductCost:
    """Medians for one way of cutting the data.

    Attributes:
        batches: Number of batches.
        one: Seconds of one product, everything prepared, by name.
        many: Seconds of the preparation and so many products after it, by name.
    """

    batches: int
    one: dict[str, float]
    many: dict[str, float]

    @property
    def share(self) -> float:
        """Our time for many products by that of the fastest peer."""
        return self.many["samirage"] / min(self.many["hessian-eigenthings"], self.many["PyHessian"])


def product_cost(widths: tuple[int, ...], examples: int, batches: int, rounds: int) -> ProductCost:
    """Measure products side by side, after making sure that they agree."""
    data, model = digits(examples, batches), network(widths)
    f = Objective(model, nn.CrossEntropyLoss(), data)
    x = f.flat_parameters()
    v = torch.randn(f.dim, generator=torch.Generator().manual_seed(1))

    def ours() -> Callable[[], Tensor]:
        product = f.linearize(x).hvp
        return lambda: product(v)

    def eigenthings() -> Callable[[], Tensor]:
        operator = HessianOperator(model, data, supervised_loss(nn.CrossEntropyLoss()))
        return lambda: operator.matvec(v)

    def pyhessian() -> Callable[[], Tensor]:
        model.zero_grad()
        if batches == 1:
            own = PyHessian(model, nn.CrossEntropyLoss(), data=data[0], cuda=False)
            vector = list(f.unflatten(v).values())
            return lambda: flat(torch.autograd.grad(own.gradsH, own.params, vector, retain_graph=True))
        own = PyHessian(model, nn.CrossEntropyLoss(), dataloader=data, cuda=False)
        vector = list(f.unflatten(v).values())
        return lambda: flat(own.dataloader_hv_product(vector)[1])

    makers = {"samirage": ours, "hessian-eigenthings": eigenthings, "PyHessian": pyhessian}
    prepared = {name: make() for name, make in makers.items()}
    results = {name: product() for name, product in prepared.items()}
    for result in results.values():
        torch.testing.assert_close(result, results["samirage"], rtol=1e-3, atol=1e-5)

    def following(make: Callable[[], Callable[[], Tensor]]) -> Callable[[], None]:
        def task() -> None:
            product = make()
            for _ in range(FOLLOWING):
                product()

        return task

    one = medians_in_turn(prepared | {"samirage, not linearized": lambda: f.hvp(x, v)}, rounds=rounds)
    many = medians_in_turn({name: following(make) for name, make in makers.items()}, rounds=max(rounds // 3, 1))
    return ProductCost(batches, one, many)


def flat(parts: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Return all entries in one vector."""
    return torch.cat([part.reshape(-1) for part in parts])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take medians over [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few seconds in all, to see whether everything runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the figures, as JSON")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    # PyHessian calls backward(create_graph=True), of which torch says that it leaks.
    warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
    widths, examples = (TINY_WIDTHS, TINY_EXAMPLES) if options.tiny else (WIDTHS, EXAMPLES)
    console = Console(width=110)
    machine = hardware(torch.device("cpu"))
    console.print(f"{machine['processor']}, {options.threads} threads, torch {torch.__version__}, float32")
    console.print(f"{'-'.join(map(str, widths))} tanh network, cross-entropy, {examples:,} MNIST digits")

    cost = compute(partial(certification, widths, examples), threads=options.threads)
    console.print(
        f"certificate: {cost.certificate.x.numel():,} parameters, {cost.products} Hessian products, "
        f"{cost.seconds:.1f} s, which is {cost.ratio:.3f} times the products in it; memory rose by "
        f"{cost.peak_mb:,.0f} MB at most"
    )
    table = Table(title="Hessian-vector products, medians")
    for heading in ("batches", "", "one product, ms", f"linearized + {FOLLOWING}, ms", "ours / best peer"):
        table.add_column(heading, justify="left" if not heading else "right")
    measured = []
    for batches in (1, BATCHES):
        result = compute(partial(product_cost, widths, examples, batches, options.rounds), threads=options.threads)
        measured.append(result)
        for name, seconds in result.one.items():
            many = f"{result.many[name] * 1e3:.0f}" if name in result.many else "–"
            share = f"{result.share:.2f}" if name == "samirage" else ""
            table.add_row(str(batches), name, f"{seconds * 1e3:.1f}", many, share)
        table.add_section()
    console.print(table)
    console.print(
        "PyHessian keeps the graph of a single batch, as samirage does; over several batches it computes each anew\n"
        "for every product, as hessian-eigenthings always does."
    )
    if options.out is not None:
        about = {
            "date": datetime.now(UTC).date().isoformat(),
            "versions": versions() | {name: version(name) for name in ("hessian-eigenthings", "pyhessian")},
            "hardware": machine,
            "threads": options.threads,
            "load_before": load,
            "network": "-".join(map(str, widths)),
            "examples": examples,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(about | _figures(cost, measured), indent=1, ensure_ascii=False)
        options.out.write_text(text + "\n", encoding="utf-8")


def _figures(cost: CertificationCost, measured: list[ProductCost]) -> dict[str, Any]:
    certificate = {
        "parameters": cost.certificate.x.numel(),
        "seconds": cost.seconds,
        "product_seconds": cost.product_seconds,
        "products": cost.products,
        "seconds_by_product_seconds": cost.ratio,
        "peak_mb": cost.peak_mb,
    }
    products = [asdict(one) | {"following": FOLLOWING, "ours_by_best_peer": one.share} for one in measured]
    return {"certificate": certificate, "products": products}


if __name__ == "__main__":
    main()
