"""Train a small network on MNIST digits with SAM under Lightning: pip install 'samirage[lightning]'."""

import argparse
import logging
import warnings

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from samirage import SAM
from samirage.lab.data.datasets import load
from samirage.trainers.lightning import SAMCallback


class Digits(pl.LightningModule):
    """A multilayer perceptron with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.net(x)  # type: ignore[no-any-return]

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> SAM:
        """Wrap the optimizer in SAM; the scaler is there in "16-mixed" only."""
        sgd = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        self.sam = SAM(sgd, rho=0.05, model=self, scaler=getattr(self.trainer.precision_plugin, "scaler", None))
        return self.sam


def main() -> None:
    """Train, test, and print."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python %(prog)s --precision bf16-mixed")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed", "16-mixed"])
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers|.*LeafSpec")

    torch.manual_seed(0)
    data = load("mnist-mini")
    train, test = (
        TensorDataset(torch.from_numpy(images).flatten(1) / 255, torch.from_numpy(labels))
        for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    )
    model = Digits()
    trainer = pl.Trainer(
        accelerator="auto",
        precision=args.precision,
        max_steps=args.steps,
        callbacks=[SAMCallback()],
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True, drop_last=True))
    (result,) = trainer.test(model, DataLoader(test, batch_size=500), verbose=False)
    record = model.sam.record
    assert record is not None
    print(f"test accuracy {result['accuracy']:.3f}")
    print(f"step {record.step}: radius {record.radius:.4f}, shift ratio {record.shift_ratio:.3f}")


if __name__ == "__main__":
    main()
