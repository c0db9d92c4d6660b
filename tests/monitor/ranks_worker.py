"""Run under torchrun by test_ranks.py: every rank holds a monitored run against one process on the whole batch.

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

from samirage import SAM, Monitor, diagnose

STEPS, WINDOW = 48, 32


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)).double()


def data():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(STEPS, 8, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (STEPS, 8), generator=generator)


def share(tensor):
    return tensor.chunk(dist.get_world_size(), dim=1)[dist.get_rank()]


def train(model, x, y, *, watched, sample=10_000):
    base = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
    optimizer = SAM(base, rho=0.4, model=model)
    monitor = Monitor(optimizer, window=WINDOW, sample=sample) if watched else None
    for batch, labels in zip(x, y, strict=True):

        def closure(batch=batch, labels=labels):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
    return optimizer, monitor


def weights(model):
    return torch.cat(
        [(p.full_tensor() if hasattr(p, "full_tensor") else p).detach().reshape(-1) for p in model.parameters()]
    )


def values(monitor):
    return [{name: f.value for name, f in d.figures.items()} for d in monitor.diagnoses]


def compared(found, expected, skip=()):
    """The largest relative difference of any figure of any window; infinite where one is NaN and the other is not."""
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in ours.items():
            if name in skip:
                continue
            if math.isnan(value) or math.isnan(theirs[name]):
                worst = worst if math.isnan(value) and math.isnan(theirs[name]) else math.inf
            else:
                worst = max(worst, abs(value - theirs[name]) / max(abs(theirs[name]), 1e-3))
    return worst


def same_on_all_ranks(found):
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, json.dumps(found, sort_keys=True))
    return all(other == gathered[0] for other in gathered)


# Each rank's loss is that of its share of the batch.
OF_THE_LOSS = ("loss", "loss_trend", "loss_drop", "ascent_gain", "lower_share", "ridge_share", "same_loss_share")


def ddp():
    x, y = data()
    ends = []
    for watched in (False, True):
        model = DistributedDataParallel(network())
        _, monitor = train(model, share(x), share(y), watched=watched)
        ends.append(weights(model))
    _, single = train(network(), x, y, watched=True)
    return {
        "identical": torch.equal(*ends),
        "difference": compared(values(monitor), values(single), OF_THE_LOSS),
        "same": same_on_all_ranks([{k: v for k, v in w.items() if k not in OF_THE_LOSS} for w in values(monitor)]),
    }


def fsdp(sample):
    x, y = data()
    ends, calls = [], 0
    original = dist.all_reduce

    def counted(tensor, *arguments, **keywords):
        nonlocal calls
        calls += 1
        return original(tensor, *arguments, **keywords)

    for watched in (False, True):
        model = network()
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(model)
        torch.distributed.all_reduce = counted
        calls = 0
        optimizer, monitor = train(model, share(x), share(y), watched=watched, sample=sample)
        torch.distributed.all_reduce = original
        ends.append((weights(model), calls))
    diagnosis = diagnose(optimizer) if dist.get_rank() == 0 else None  # on one rank alone: nobody waits for the others
    _, single = train(network(), x, y, watched=True)
    return {
        "identical": torch.equal(ends[0][0], ends[1][0]),
        "reductions": ends[1][1] - ends[0][1],
        "difference": compared(values(monitor), values(single), OF_THE_LOSS),
        "same": same_on_all_ranks([{k: v for k, v in w.items() if k not in OF_THE_LOSS} for w in values(monitor)]),
        "last_step": diagnosis.last_step if diagnosis else None,
    }


def fsdp_too_early():
    model = network()
    fully_shard(model)
    x, y = data()
    optimizer, _ = train(model, share(x)[:10], share(y)[:10], watched=True)
    try:
        diagnose(optimizer)
    except ValueError as error:
        return {"said": str(error)}
    return {"said": ""}


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    scenarios = {
        "ddp": ddp,
        "fsdp": lambda: fsdp(10_000),
        "fsdp sampled": lambda: fsdp(30),
        "fsdp too early": fsdp_too_early,
    }
    for name, scenario in scenarios.items():
        result = scenario()
        if dist.get_rank() == 0:
            print(json.dumps({"scenario": name, **result}), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads now and then abort the interpreter's own way out, after all is done


if __name__ == "__main__":
    main()
