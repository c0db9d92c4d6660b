"""Train a small network on MNIST digits with SAM under Accelerate: pip install 'samirage[accelerate]'."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from samirage import SAM
from samirage.lab.data.datasets import load


def main() -> None:
    """Train, test, and print."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python %(prog)s --precision bf16")
    parser.add_argument("--precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()

    set_seed(0)
    data = load("mnist-mini")
    train, test = (
        TensorDataset(torch.from_numpy(images).flatten(1) / 255, torch.from_numpy(labels))
        for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    )
    accelerator = Accelerator(mixed_precision=args.precision)
    model, loader, test_loader = accelerator.prepare(
        nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)),
        DataLoader(train, batch_size=64, shuffle=True, drop_last=True),
        DataLoader(test, batch_size=500),
    )
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    # After the model, so that SAM sees the model as it is called; the scaler is there in fp16 only.
    sam = SAM(sgd, rho=0.05, model=model, scaler=accelerator.scaler)
    optimizer, scheduler = accelerator.prepare(sam, torch.optim.lr_scheduler.CosineAnnealingLR(sam, args.steps))

    step = 0
    while step < args.steps:
        for x, y in loader:

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                accelerator.backward(loss)
                return loss

            optimizer.step(closure)
            scheduler.step()
            step += 1
            if step == args.steps:
                break

    model.eval()
    with torch.no_grad():
        hits = [accelerator.gather_for_metrics(model(x).argmax(1) == y) for x, y in test_loader]
    record = sam.record
    assert record is not None
    accelerator.print(f"test accuracy {torch.cat(hits).float().mean():.3f}")
    accelerator.print(f"step {record.step}: radius {record.radius:.4f}, shift ratio {record.shift_ratio:.3f}")


if __name__ == "__main__":
    main()
