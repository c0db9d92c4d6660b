"""The benchmark of the residual network: its count of operations, its shares and ratios, and that it runs."""

import json

import pytest
import torch
from torch import nn

from benchmarks import resnet
from benchmarks.resnet import CONTENDERS, PEAKS, flops_per_image, known_peak, main, measure
from samirage.lab.tasks.cifar import network_of, settings

CPU = torch.device("cpu")


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_operations_are_those_of_the_layers(scale):
    config = settings(scale, {})
    network, counted = network_of(config, 0, CPU), []

    def count(module, inputs, out):
        (x,) = inputs
        per_output = module.in_features if isinstance(module, nn.Linear) else module.weight[0].numel()
        # Forward, and backward to weights and to inputs; the images themselves need no gradient.
        counted.append(2 * out[0].numel() * per_output * (3 if x.requires_grad else 2))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(2, 3, config.size, config.size))
    assert flops_per_image(config) == sum(counted)


def test_the_whole_network_needs_what_is_known_of_it():
    # 0.56 billion products per image forward, as is often quoted for this network; three times that with the backward.
    assert flops_per_image(settings("paper", {})) == pytest.approx(6 * 0.56e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("T4", None)]
)
def test_the_peak_is_that_of_the_data_sheet(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert known_peak(torch.device("cuda")) == peak
    assert known_peak(CPU) is None
    assert next(iter(PEAKS)) == "H100 PCIe"  # before the shorter name, which is a part of it


def test_ratios_and_shares_follow_from_times(monkeypatch):
    config = settings("smoke", {"threads": 1, "images": 64})
    seconds = {"SGD": [1.0, 2.0, 3.0], "SAM": [2.0, 4.0, 9.0]}
    others = {name: [1.0, 1.0, 1.0] for name in CONTENDERS if name not in seconds}
    monkeypatch.setattr(resnet, "times_in_turn", lambda tasks, rounds: {**seconds, **others})
    measured = measure(config, CPU, 3, peak=0.5)["contenders"]
    assert measured["SAM"]["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.5, "n": 3}
    assert measured["SAM"]["images_per_s"] == 64 / 4.0
    assert measured["SAM"]["share"] == pytest.approx(16 * 2 * flops_per_image(config) / 0.5e12)
    assert measured["SGD"]["share"] == pytest.approx(32 * flops_per_image(config) / 0.5e12)


def test_the_command_measures_prints_and_stores(tmp_path, capsys):
    out = tmp_path / "new" / "resnet.json"
    main(["--scale", "smoke", "--rounds", "2", "--images", "64", "--eager", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "SAM with guard, watched" in printed
    assert "peak unknown" in printed
    stored = json.loads(out.read_text(encoding="utf-8"))
    assert list(stored["contenders"]) == list(CONTENDERS)
    assert stored["contenders"]["SGD"]["ratio"]["median"] == 1
    assert stored["contenders"]["SAM"]["ratio"]["n"] == 2
    assert stored["contenders"]["SAM"]["share"] is None
    assert stored["images_per_epoch"] == 64


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--rounds", "1"], "--rounds must be at least 2"),
        (["--images", "49"], "--images must fill a batch of 50; got 49"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, said, capsys):
    with pytest.raises(SystemExit):
        main(given)
    assert said in capsys.readouterr().err
