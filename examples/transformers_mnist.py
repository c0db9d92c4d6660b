"""Train a small residual network on MNIST digits with SAM: pip install 'samirage[transformers]'."""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import (
    EvalPrediction,
    PrinterCallback,
    ResNetConfig,
    ResNetForImageClassification,
    TrainingArguments,
    set_seed,
)

from samirage.lab.data.datasets import load
from samirage.trainers.transformers import SAMTrainer


def examples(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Return the data as the model takes it."""
    pixels = torch.from_numpy(images).unsqueeze(1) / 127.5 - 1
    return [{"pixel_values": x, "labels": int(y)} for x, y in zip(pixels, labels, strict=True)]


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of right answers."""
    return {"accuracy": float(np.mean(np.argmax(prediction.predictions, axis=1) == prediction.label_ids))}


def main() -> None:
    """Train, test, and print."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python %(prog)s --precision bf16")
    parser.add_argument("--precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--steps", type=int, default=120)
    args = parser.parse_args()

    set_seed(0)
    data = load("mnist-mini")
    config = ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    config.num_labels = 10
    with tempfile.TemporaryDirectory() as folder:
        trainer = SAMTrainer(
            ResNetForImageClassification(config),
            TrainingArguments(
                folder,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=250,
                max_steps=args.steps,
                learning_rate=5e-3,
                lr_scheduler_type="cosine",
                bf16=args.precision == "bf16",
                fp16=args.precision == "fp16",
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=examples(data.train_images, data.train_labels),
            eval_dataset=examples(data.test_images, data.test_labels),
            compute_metrics=accuracy,
            sam={"rho": 0.05},
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        result = trainer.evaluate()
    record = trainer.sam.record
    assert record is not None
    print(f"test accuracy {result['eval_accuracy']:.3f}")
    print(f"step {record.step}: radius {record.radius:.4f}, shift ratio {record.shift_ratio:.3f}")


if __name__ == "__main__":
    main()
