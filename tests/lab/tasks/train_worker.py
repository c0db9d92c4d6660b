"""Run under torchrun by test_train.py: trainings in float64 by all ranks, and the same on every rank by itself.

Prints one line of JSON per scenario on rank 0.
"""

import json
import os
import sys
from functools import partial

import torch
import torch.distributed as dist
from torch import nn

from samirage.lab.tasks.cifar import network_of, pictures_of, recipe_of, settings
from samirage.lab.tasks.image_data import Pictures
from samirage.lab.tasks.loop import ImageTraining, Ways
from samirage.lab.tasks.process_group import (
    DistributedProcessGroup,
    JointBatchNorm2d,
    SingleProcess,
    convert_joint_batch_norm,
)

CPU = torch.device("cpu")
STEPS = 6


class Precise(Pictures):
    def _standardized(self, images):
        return super()._standardized(images).double()


def training(group, method):
    config = settings("smoke", {"images": 80, "batch_size": 32, "epochs": 8, "threads": 1})
    pictures = pictures_of(config, CPU, None)
    pictures.__class__ = Precise
    network = network_of(config, 0, CPU).double()
    recipe = recipe_of(config, method, 0.3, 0)
    return ImageTraining(network, pictures, recipe, weight_decay=5e-4, ways=Ways(), group=group, watched=False)


def compare(parallel, method):
    ends = []
    for group in (DistributedProcessGroup(parallel), SingleProcess()):
        one = training(group, method)
        courses = [one.epoch() for _ in range(STEPS // 2)]
        loss = torch.cat([course["loss"] for course in courses])
        norm = torch.cat([course["grad_norm"] for course in courses])
        ends.append((loss, norm, torch.tensor(one.test()), [b.double() for b in one._network.buffers()]))
    (loss, norm, test, buffers), (loss_1, norm_1, test_1, buffers_1) = ends
    return {
        "loss": (loss / loss_1 - 1).abs().max().item(),
        "grad_norm": (norm / norm_1 - 1).abs().max().item(),
        "test": (test - test_1).abs().max().item(),
        "buffers": max((a - b).abs().max().item() for a, b in zip(buffers, buffers_1, strict=True)),
        "fall": (loss_1[0] - loss_1[-1]).item(),
    }


def joint_batch_norm(momentum):
    """Values, statistics, and gradients of inputs and weights, against one layer that sees the whole batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 4, 4, generator=generator, dtype=torch.float64) + 5
    to = torch.randn(6, 3, 4, 4, generator=generator, dtype=torch.float64)
    layers = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum)).double()
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        layers[0].bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    ours = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum)).double()
    ours.load_state_dict(layers.state_dict())
    convert_joint_batch_norm(ours)
    assert type(ours[0]) is JointBatchNorm2d
    rank, size = dist.get_rank(), dist.get_world_size()
    whole = x.clone().requires_grad_()
    part = x.tensor_split(size)[rank].clone().requires_grad_()
    for _ in range(2):
        y, y_part = layers(whole), ours(part)
    (y * to).sum().backward()
    (y_part * to.tensor_split(size)[rank]).sum().backward()
    weights = [p.grad.clone() for p in ours.parameters()]
    for grad in weights:
        dist.all_reduce(grad)
    pairs = [
        (y_part, y.tensor_split(size)[rank]),
        (part.grad, whole.grad.tensor_split(size)[rank]),
        *zip(weights, (p.grad for p in layers.parameters()), strict=True),
        *zip(ours.buffers(), layers.buffers(), strict=True),
        (ours.eval()(part), layers.eval()(whole).tensor_split(size)[rank]),
    ]
    return {"difference": max((a - b).abs().max().item() for a, b in pairs)}


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    scenarios = {f"joint batch norm {momentum}": partial(joint_batch_norm, momentum) for momentum in (0.3, None)}
    for parallel, method in (("ddp", "sam"), ("fsdp", "sam"), ("ddp", "guard")):
        scenarios[f"{parallel} {method}"] = partial(compare, parallel, method)
    for name, scenario in scenarios.items():
        result = scenario()
        if dist.get_rank() == 0:
            print(json.dumps({"scenario": name, **result}), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
