"""ResNet-18: its size, its shapes, and its layers against the paper's description."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from samirage.lab.tasks.resnet import Block, ResNet18


def test_it_has_the_known_number_of_parameters():
    # Counted by hand: 3·64·9 + 128 in the stem; stages of 147,968, 525,568, 2,099,712 and 8,393,728; 513 per class.
    assert sum(p.numel() for p in ResNet18(100).parameters()) == 11_220_132
    assert sum(p.numel() for p in ResNet18(10).parameters()) == 11_220_132 - 90 * 513


def test_it_has_eighteen_layers_with_weights_on_the_longest_path():
    layers = [
        name
        for name, module in ResNet18(10, width=4).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 18


@pytest.mark.parametrize("size", [32, 40])
def test_each_later_stage_halves_the_image_and_doubles_the_channels(size):
    model, shapes = ResNet18(10, width=4), []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _args, out: shapes.append(tuple(out.shape[1:])))
    model(torch.zeros(2, 3, size, size))
    assert shapes[::2] == shapes[1::2] == [(4 << s, size >> s, size >> s) for s in range(4)]


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (3, 2), (4, 2)])
def test_a_block_whose_branch_is_silent_is_its_shortcut(channels, stride):
    block = Block(channels, 4, stride).double()
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, channels, 8, 8, dtype=torch.float64)
    shortcut = x
    if (channels, stride) != (4, 1):
        strided = functional.conv2d(x, block.shortcut[0].weight, stride=stride)
        shortcut = functional.batch_norm(strided, None, None, training=True)
    torch.testing.assert_close(block(x), shortcut.relu())
    assert len(block.shortcut) == (0 if (channels, stride) == (4, 1) else 2)


def test_names_and_initial_values_are_those_of_a_block_with_strided_convolutions():
    torch.manual_seed(0)
    state = Block(3, 8, stride=2).state_dict()
    torch.manual_seed(0)
    weights = {
        "conv1.weight": nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False).weight,
        "conv2.weight": nn.Conv2d(8, 8, 3, padding=1, bias=False).weight,
        "shortcut.0.weight": nn.Conv2d(3, 8, 1, stride=2, bias=False).weight,
    }
    norms = [f"{norm}.{key}" for norm in ("norm1", "norm2", "shortcut.1") for key in nn.BatchNorm2d(8).state_dict()]
    assert state.keys() == {*weights, *norms}
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())
