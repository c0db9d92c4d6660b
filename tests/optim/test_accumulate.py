"""Micro-batches: k of them equal one batch, in both passes and each way of calling."""

import pytest
import torch
from torch import nn

from samirage import SAM
from samirage.optim import accumulated


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def data():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(5, 12, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (5, 12), generator=generator)


def run(style, sizes, scaler=None, **options):
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9), rho=0.5, scaler=scaler, **options)
    losses = []
    for x, y in zip(*data(), strict=True):
        micro = list(zip(x.split(sizes), y.split(sizes), strict=True))
        weights = [len(part) / len(x) for part, _ in micro]
        closure = accumulated(
            optimizer,
            lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
            iter(micro),
            weights=weights,
        )
        if style == "closure":
            losses.append(optimizer.step(closure).item())
        elif style == "perturbed":
            losses.append(closure().item())
            with optimizer.perturbed():
                closure()
            optimizer.step()
        else:
            losses.append(closure().item())
            optimizer.first_step()
            closure()
            optimizer.second_step()
        if scaler is not None:
            scaler.update()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), losses


@pytest.mark.parametrize("style", ["closure", "perturbed", "first_second"])
@pytest.mark.parametrize("sizes", [[4, 4, 4], [1, 3, 8], [6, 6]])
@pytest.mark.parametrize("scaled", [False, True])
def test_micro_batches_equal_the_batch(style, sizes, scaled):
    weights, losses = run(style, sizes, torch.amp.GradScaler("cpu") if scaled else None)
    expected, expected_losses = run("closure", [12])
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    assert losses == pytest.approx(expected_losses, abs=1e-12)


def test_equal_shares_are_the_default():
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0))
    x, _ = data()

    def loss_of(part):
        return model(part).square().mean()

    closure = accumulated(optimizer, loss_of, x[0].split(4))
    assert closure().item() == pytest.approx(loss_of(x[0]).item(), abs=1e-14)


def test_dropout_masks_of_each_micro_batch_are_equal_in_both_passes():
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5))
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=1e-6, model=model)
    masks = []
    model.register_forward_hook(lambda module, args, output: masks.append(output == 0))
    closure = accumulated(optimizer, lambda x: model(x).square().mean(), torch.randn(6, 4).split(2))
    closure()
    with optimizer.perturbed():
        closure()
    optimizer.step()
    assert [torch.equal(a, b) for a, b in zip(masks[:3], masks[3:], strict=True)] == [True] * 3
    assert not torch.equal(masks[0], masks[1])


def test_micro_batches_that_make_no_sense():
    optimizer = SAM(torch.optim.SGD(network().parameters(), lr=0.1))
    with pytest.raises(ValueError, match="needs at least one micro-batch; got none"):
        accumulated(optimizer, torch.sum, iter([]))
    with pytest.raises(ValueError, match="weights must have one number for each micro-batch; got 1 for 2"):
        accumulated(optimizer, torch.sum, [1, 2], weights=[1.0])
