"""Run under torchrun by test_distributed.py: every rank compares with a computation of its own on the whole batch.

Prints one line of JSON per scenario on rank 0; an exception on any rank fails the whole run.
"""

import json
import math
import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from samirage import SAM, Guard, WarmStart
from samirage.optim import accumulated
from samirage.sam import ASAM, GSAM, LookSAM

STYLES = ["closure", "perturbed", "first_second"]
WITH_OPTIONS = {
    "ASAM": ASAM(eta=0.3, biases=False),
    "GSAM": GSAM(alpha=0.6),
    "LookSAM": LookSAM(k=3, alpha=0.5),
}
STEPS = 6


def network(dtype=torch.float64, norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(9)] if norm else []
    return nn.Sequential(nn.Linear(5, 9), nn.Tanh(), *middle, nn.Linear(9, 3)).to(dtype)


def data(dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(STEPS, 8, 5, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, 3, (STEPS, 8), generator=generator)


def groups(model, second):
    params = list(model.parameters())
    return [{"params": params[:2]}, {"params": params[2:], **second}]


def take(style, optimizer, backward):
    def closure():
        optimizer.zero_grad()
        return backward()

    if style == "closure":
        return optimizer.step(closure)
    loss = closure()
    if style == "perturbed":
        with optimizer.perturbed():
            backward()
        optimizer.step()
    else:
        optimizer.first_step(zero_grad=True)
        backward()
        optimizer.second_step()
    return loss


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def train(model, optimizer, x, y, style):
    for batch, labels in zip(x, y, strict=True):

        def backward(batch=batch, labels=labels):
            loss = loss_of(model, batch, labels)
            loss.backward()
            return loss.detach()

        take(style, optimizer, backward)


def local_reference(x, y, rho, lr, ranks):
    """m-sharpness in one process, written out: one perturbation per share of the batch, the mean of the gradients."""
    model = network()
    params = list(model.parameters())
    for batch, labels in zip(x, y, strict=True):
        means = [torch.zeros_like(p) for p in params]
        for part, part_labels in zip(batch.chunk(ranks), labels.chunk(ranks), strict=True):
            home = [p.detach().clone() for p in params]
            grads = torch.autograd.grad(loss_of(model, part, part_labels), params)
            length = torch.sqrt(sum(g.square().sum() for g in grads))
            with torch.no_grad():
                for p, g in zip(params, grads, strict=True):
                    p += rho * g / length
            grads = torch.autograd.grad(loss_of(model, part, part_labels), params)
            with torch.no_grad():
                for p, value, mean, g in zip(params, home, means, grads, strict=True):
                    p.copy_(value)
                    mean += g / ranks
        with torch.no_grad():
            for p, mean in zip(params, means, strict=True):
                p -= lr * mean
    return params


def difference(params, expected):
    def full(p):
        return p.full_tensor() if hasattr(p, "full_tensor") else p

    return max((full(p).double() - q.double()).abs().max().item() for p, q in zip(params, expected, strict=True))


def same_on_all_ranks(params):
    for p in params:
        gathered = [torch.empty_like(p) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, p.detach())
        if not all(torch.equal(g, gathered[0]) for g in gathered):
            return False
    return True


def share(tensor):
    """This rank's part of the batches of all steps."""
    return tensor.chunk(dist.get_world_size(), dim=1)[dist.get_rank()]


class Reductions:
    """Counts the calls of all_reduce that the optimizer makes itself."""

    def __enter__(self):
        self.count, self.sizes, self._original = 0, [], dist.all_reduce

        def counted(tensor, *arguments, **keywords):
            self.count += 1
            self.sizes.append(tensor.numel())
            return self._original(tensor, *arguments, **keywords)

        torch.distributed.all_reduce = counted
        return self

    def __exit__(self, *_):
        torch.distributed.all_reduce = self._original


def ddp(style, variant, second, bucket_view):
    x, y = data()
    variant = WITH_OPTIONS.get(variant, variant)
    model = DistributedDataParallel(network(), gradient_as_bucket_view=bucket_view)
    optimizer = SAM(torch.optim.SGD(groups(model, second), lr=0.3, momentum=0.9), rho=0.4, variant=variant, model=model)
    with Reductions() as reductions:
        train(model, optimizer, share(x), share(y), style)
    single = network()
    base = torch.optim.SGD(groups(single, second), lr=0.3, momentum=0.9)
    other = SAM(base, rho=0.4, variant=variant, model=single)
    train(single, other, x, y, style)
    return {
        "difference": difference(model.parameters(), single.parameters()),
        "same": same_on_all_ranks(model.parameters()),
        "reductions": reductions.count,
        "cosine": abs(optimizer.record.cosine - other.record.cosine).item(),
    }


def local_scope(style):
    x, y = data()
    model = DistributedDataParallel(network())
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=0.4, model=model, scope="local")
    synchronised = []

    def seen(state, bucket):
        synchronised.append(None)
        return dist.algorithms.ddp_comm_hooks.default_hooks.allreduce_hook(state, bucket)

    from torch.distributed.algorithms import ddp_comm_hooks  # noqa: F401

    model.register_comm_hook(None, seen)
    with Reductions() as reductions:
        train(model, optimizer, share(x), share(y), style)
    global_one = network()
    train(global_one, SAM(torch.optim.SGD(global_one.parameters(), lr=0.3), rho=0.4), x, y, "closure")
    return {
        "difference": difference(model.parameters(), local_reference(x, y, 0.4, 0.3, dist.get_world_size())),
        "from_global": difference(model.parameters(), global_one.parameters()),
        "same": same_on_all_ranks(model.parameters()),
        "synchronised": len(synchronised),
        "sizes": reductions.sizes,
        "sync_is_on": model.require_backward_grad_sync,
    }


def local_warm_start(style):
    x, y = data()
    model = DistributedDataParallel(network())
    options = {"model": model, "scope": "local", "warm_start": WarmStart(steps=STEPS)}
    train(model, SAM(torch.optim.SGD(model.parameters(), lr=0.3), **options), share(x), share(y), style)
    single = network()
    train(single, SAM(torch.optim.SGD(single.parameters(), lr=0.3), rho=0.0), x, y, "closure")
    return {
        "difference": difference(model.parameters(), single.parameters()),
        "same": same_on_all_ranks(model.parameters()),
    }


def local_overflow(style):
    """A gradient that is not finite on one rank alone: all skip, and none waits for another."""
    x, y = data()
    model = DistributedDataParallel(network())
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=0.4, model=model, scope="local")
    home = [p.detach().clone() for p in model.parameters()]
    x = share(x).clone()
    if dist.get_rank() == 1:
        x[0] = math.nan
    train(model, optimizer, x[:1], share(y)[:1], style)
    skipped = bool(optimizer.record.skipped)
    unchanged = difference(model.parameters(), home) == 0
    train(model, optimizer, x[1:], share(y)[1:], style)
    return {"skipped": skipped, "unchanged": unchanged, "same": same_on_all_ranks(model.parameters())}


def batch_norm(scope):
    x, y = data()
    ends = []
    for rho in (0.4, 0.0):
        model = DistributedDataParallel(network(norm=True))
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=rho, model=model, scope=scope)
        train(model, optimizer, share(x), share(y), "closure")
        ends.append([b.double() for b in model.buffers()])
    return {"difference": difference(*ends)}


def accumulation(scope, style):
    """Two micro-batches per rank equal one batch; synchronised once per pass (in the perturbed pass only, if local)."""
    x, y = data()
    ends, counts = [], []
    for pieces in (1, 2):
        model = DistributedDataParallel(network())
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=0.4, model=model, scope=scope)
        calls = []

        def seen(state, bucket, calls=calls):
            calls.append(None)
            return dist.algorithms.ddp_comm_hooks.default_hooks.allreduce_hook(state, bucket)

        model.register_comm_hook(None, seen)
        for batch, labels in zip(share(x), share(y), strict=True):
            micro = list(zip(batch.chunk(pieces), labels.chunk(pieces), strict=True))
            closure = accumulated(optimizer, lambda b, model=model: loss_of(model, *b), micro)
            if style == "closure":
                optimizer.step(closure)
            else:
                closure()
                with optimizer.perturbed():
                    closure()
                optimizer.step()
        ends.append(list(model.parameters()))
        counts.append(len(calls))
    return {"difference": difference(*ends), "synchronised": counts}


def fsdp(style, variant, second, dtype=torch.float64, gathered=False):
    x, y = data(dtype)
    variant = WITH_OPTIONS.get(variant, variant)
    model = network(dtype)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    if gathered:
        model.set_reshard_after_backward(False)
    optimizer = SAM(torch.optim.SGD(groups(model, second), lr=0.3, momentum=0.9), rho=0.4, variant=variant, model=model)
    with Reductions() as reductions:
        train(model, optimizer, share(x), share(y), style)
    single = network(dtype)
    base = torch.optim.SGD(groups(single, second), lr=0.3, momentum=0.9)
    other = SAM(base, rho=0.4, variant=variant, model=single)
    train(single, other, x, y, style)
    names = ("grad_norm", "grad_plus_norm", "shift_ratio", "slope_plus", "cosine", "radius")
    if isinstance(variant, LookSAM):
        names = ("grad_norm",)  # the last step takes one pass
    return {
        "difference": difference(model.parameters(), single.parameters()),
        "figures": max(abs(getattr(optimizer.record, n) / getattr(other.record, n) - 1).item() for n in names),
        "sizes": reductions.sizes,
    }


def guarded(wrap):
    """At a radius that the guard rejects now and then: every rank decides as one process does with the whole batch."""
    x, y = data()
    model = DistributedDataParallel(network()) if wrap == "ddp" else network()
    if wrap == "fsdp":
        fully_shard(model)
    single, ends = network(), []
    for parts, (inputs, labels) in ((model, (share(x), share(y))), (single, (x, y))):
        base = torch.optim.SGD(parts.parameters(), lr=0.3)
        guard = Guard(kappa=0.9, shrink=0.3, growth=1.5)
        optimizer = SAM(base, rho=3.0, model=parts, guard=guard)
        rejections = []
        for step in range(STEPS):
            train(parts, optimizer, inputs[step : step + 1], labels[step : step + 1], "closure")
            rejections.append(int(optimizer.record.rejections))
        ends.append(
            (list(parts.parameters()), rejections, optimizer.state_dict()["param_groups"][0]["sam_guard_factor"])
        )
    own = torch.tensor(ends[0][1], dtype=torch.float64)
    everywhere = own.clone()
    dist.all_reduce(everywhere)
    return {
        "difference": difference(ends[0][0], ends[1][0]),
        "rejections": [ends[0][1], ends[1][1]],
        "factors": [ends[0][2], ends[1][2]],
        "agreed": torch.equal(everywhere, own * dist.get_world_size()),
    }


def fsdp_failures():
    x, y = data()
    model = network()
    fully_shard(model)
    optimizer = SAM(torch.optim.Adam(model.parameters(), lr=0.3), rho=0.4, model=model)
    train(model, optimizer, share(x)[:1], share(y)[:1], "closure")
    home = [p.full_tensor().clone() for p in model.parameters()]
    loss_of(model, share(x)[1], share(y)[1]).backward()
    failed = False
    try:
        with optimizer.perturbed():
            moved = difference(model.parameters(), home)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        failed = True
    back = difference(model.parameters(), home)
    loss_of(model, share(x)[2], share(y)[2]).backward()
    if dist.get_rank() == 1:  # a shard on one rank alone is not finite
        next(model.parameters()).grad.to_local().fill_(math.inf)
    with optimizer.perturbed():
        loss_of(model, share(x)[2], share(y)[2]).backward()
    optimizer.step()
    return {
        "failed": failed,
        "moved": moved,
        "back": back,
        "skipped": bool(optimizer.record.skipped),
        "unchanged": difference(model.parameters(), home),
    }


def scenarios():
    for style in STYLES:
        for bucket_view in (False, True):
            yield f"ddp {style} sam {{}} {bucket_view}", lambda s=style, b=bucket_view: ddp(s, "sam", {}, b)
        yield f"ddp {style} asam {{'rho': 0.1}} True", lambda s=style: ddp(s, "asam", {"rho": 0.1}, True)
        yield f"local {style}", lambda s=style: local_scope(s)
        yield f"local warm start {style}", lambda s=style: local_warm_start(s)
        yield f"local overflow {style}", lambda s=style: local_overflow(s)
        yield f"fsdp {style} sam", lambda s=style: fsdp(s, "sam", {})
    for scope in ("global", "local"):
        yield f"batch norm {scope}", lambda s=scope: batch_norm(s)
        for style in STYLES[:2]:
            yield f"accumulation {scope} {style}", lambda a=scope, b=style: accumulation(a, b)
    for variant in ("sam", "asam", "unnormalized"):
        for second in ({}, {"rho": 0.1}, {"rho": 0.0}):
            yield f"fsdp closure {variant} {second}", lambda v=variant, r=second: fsdp("closure", v, r)
    for variant in WITH_OPTIONS:
        yield f"ddp closure {variant} {{}} True", lambda v=variant: ddp("closure", v, {}, True)
        yield f"ddp perturbed {variant} {{}} False", lambda v=variant: ddp("perturbed", v, {"rho": 0.1}, False)
        yield f"fsdp closure {variant} {{}}", lambda v=variant: fsdp("closure", v, {})
        yield f"fsdp first_second {variant} {{}}", lambda v=variant: fsdp("first_second", v, {"rho": 0.1})
    for wrap in ("ddp", "fsdp"):
        yield f"guarded {wrap}", lambda w=wrap: guarded(w)
    yield "fsdp float32", lambda: fsdp("closure", "sam", {}, torch.float32)
    yield "fsdp gathered", lambda: fsdp("perturbed", "sam", {}, gathered=True)
    yield "fsdp failures", fsdp_failures


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name, scenario in scenarios():
        result = scenario()
        if dist.get_rank() == 0:
            print(json.dumps({"scenario": name, **result}), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads now and then abort the interpreter's own way out, after all is done


if __name__ == "__main__":
    main()
