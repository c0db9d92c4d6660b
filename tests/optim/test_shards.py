"""m-sharpness in one process: what m ranks of DistributedDataParallel do (see test_distributed.py)."""

import math

import pytest
import torch

from samirage import SAM, WarmStart
from tests.optim.distributed_worker import data, difference, local_reference, loss_of, network


def run(shards, model, optimizer, steps=slice(None), spoil=None, scaler=None):
    calls = []
    x, y = data()
    for batch, labels in zip(x[steps], y[steps], strict=True):

        def closure(shard, batch=batch, labels=labels):
            optimizer.zero_grad()
            calls.append(shard)
            loss = loss_of(model, batch.chunk(shards)[shard], labels.chunk(shards)[shard])
            (loss if scaler is None else scaler.scale(loss)).backward()
            if len(calls) == spoil:
                next(model.parameters()).grad[0] = math.nan
            return loss.detach()

        losses = [loss_of(model, *part).item() for part in zip(batch.chunk(shards), labels.chunk(shards), strict=True)]
        loss = optimizer.step(closure).item()
        assert spoil is not None or loss == pytest.approx(sum(losses) / shards, rel=1e-14)
        if scaler is not None:
            scaler.update()
    return calls


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_shards_equal_ranks(shards, scaled):
    model = network()
    scaler = torch.amp.GradScaler("cpu") if scaled else None
    base = torch.optim.SGD(model.parameters(), lr=0.3)
    optimizer = SAM(base, rho=0.4, scope="local", shards=shards, scaler=scaler)
    calls = run(shards, model, optimizer, scaler=scaler)
    assert calls[: 2 * shards] == [shard for shard in range(shards) for _ in range(2)]
    assert difference(model.parameters(), local_reference(*data(), 0.4, 0.3, shards)) < 1e-14
    other = local_reference(*data(), 0.4, 0.3, 1)
    assert difference(model.parameters(), other) > 1e-3  # so that one perturbation for all shards would fail
    assert optimizer.record.radius.item() == pytest.approx(0.4)
    assert optimizer.record.step == 5


def test_shards_of_a_plain_model_with_batch_norm_equal_ranks_and_leave_the_statistics_of_one_pass():
    model, plain = network(norm=True), network(norm=True)
    home = [p.detach().clone() for p in model.parameters()]
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=0.4, scope="local", shards=2, model=model)
    x, y = data()

    def closure(shard):
        optimizer.zero_grad()
        loss = loss_of(model, x[0].chunk(2)[shard], y[0].chunk(2)[shard])
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    for part in x[0].chunk(2):
        plain(part)
    assert difference(model.buffers(), list(plain.buffers())) == 0
    assert difference(model.parameters(), home) > 1e-3
    assert not optimizer.record.skipped


def test_a_warm_start_over_shards_is_plain_training():
    model, twin = network(), network()
    options = {"scope": "local", "shards": 2, "warm_start": WarmStart(steps=6)}
    calls = run(2, model, SAM(torch.optim.SGD(model.parameters(), lr=0.3), **options))
    assert calls == [0, 1] * 6
    plain = torch.optim.SGD(twin.parameters(), lr=0.3)
    for batch, labels in zip(*data(), strict=True):
        plain.zero_grad()
        loss_of(twin, batch, labels).backward()
        plain.step()
    assert difference(model.parameters(), list(twin.parameters())) < 1e-14


@pytest.mark.parametrize("spoil", [1, 2, 3, 4])
def test_a_shard_that_is_not_finite_skips_the_step(spoil):
    model = network()
    home = [p.detach().clone() for p in model.parameters()]
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9), rho=0.4, scope="local", shards=2)
    run(2, model, optimizer, steps=slice(1), spoil=spoil)
    assert difference(model.parameters(), home) == 0
    assert optimizer.record.skipped
    assert not optimizer.state
    run(2, model, optimizer, steps=slice(1, 2))
    assert not optimizer.record.skipped


def test_shards_need_a_closure_that_takes_one():
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), scope="local", shards=3)
    with pytest.raises(TypeError, match="the closure must take the number of the shard, from 0 to 2: write"):
        optimizer.step(lambda: None)
    x, y = data()
    loss_of(model, x[0], y[0]).backward()
    with pytest.raises(RuntimeError, match=r"first_step\(\) makes one perturbation, but shards=3 needs one for each"):
        optimizer.first_step()
