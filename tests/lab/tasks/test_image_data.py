"""Images on the device: what crops and reflections do, subsets, and the artificial data set."""

import numpy as np
import pytest
import torch

from samirage.errors import UserError
from samirage.lab.data.datasets import ImageData
from samirage.lab.tasks.image_data import Pictures, subset, synthetic

CPU = torch.device("cpu")
SIZE = 16  # shifted by at most 2 pixels
REACH = 2


def made(images: int = 60, classes: int = 6, size: int = SIZE) -> ImageData:
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(images) % classes)
    pixels = rng.integers(1, 256, (2, images, size, size, 3), dtype=np.uint8)  # never black
    return ImageData("made", pixels[0], labels, pixels[1], labels.copy())


def raw(pictures: Pictures, x: torch.Tensor) -> np.ndarray:
    """Undo the standardisation."""
    back = x.permute(0, 2, 3, 1) * pictures._scale + pictures._mean
    return back.round().numpy().astype(np.uint8)


def test_every_augmented_image_is_a_shifted_or_reflected_one():
    data = made()
    pictures = Pictures(data, CPU)
    rows = torch.arange(60).repeat(20)
    x = raw(pictures, pictures.augmented(rows, torch.Generator().manual_seed(3)))
    seen = set()
    for row, image in zip(rows.tolist(), x, strict=True):
        around = np.pad(data.train_images[row], ((REACH, REACH), (REACH, REACH), (0, 0)))
        variants = {
            (down, across, turned): crop[:, ::-1] if turned else crop
            for down in range(2 * REACH + 1)
            for across in range(2 * REACH + 1)
            for turned in (False, True)
            for crop in [around[down : down + SIZE, across : across + SIZE]]
        }
        found = [key for key, variant in variants.items() if np.array_equal(variant, image)]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 50  # each of 5 × 5 shifts, reflected or not


def test_augmentation_repeats_with_the_seed_and_only_then():
    pictures = Pictures(made(), CPU)
    rows = torch.arange(30)
    one, same, other = (pictures.augmented(rows, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_colours_are_standardized_over_the_training_images_and_test_images_are_whole():
    data = made()
    pictures = Pictures(data, CPU)
    ((x, labels),) = pictures.test_batches()
    assert np.array_equal(raw(pictures, x), data.test_images)
    assert labels.tolist() == data.test_labels.tolist()
    same = Pictures(ImageData("made", data.test_images, labels.numpy(), data.test_images, labels.numpy()), CPU)
    ((x, _),) = same.test_batches()
    assert x.mean((0, 2, 3)).abs().max() < 1e-6
    assert (x.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6


def test_a_subset_has_the_first_images_of_the_first_classes():
    data = made()
    small = subset(data, classes=3, images=12, shrink=2)
    assert small.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert small.test_labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    source = data.train_images[np.flatnonzero(data.train_labels == 1)[2]].astype(float)
    block = source[4:6, 10:12, 2].mean()
    assert abs(small.train_images[6, 2, 5, 2] - block) <= 0.5
    assert small.train_images.shape == (12, SIZE // 2, SIZE // 2, 3)


@pytest.mark.parametrize(("classes", "images"), [(3, 13), (3, 36), (7, 7), (3, 0)])
def test_a_subset_that_is_not_to_be_had(classes, images):
    with pytest.raises(UserError, match=f"^{images} images of {classes} classes were asked for, and made has not so"):
        subset(made(), classes=classes, images=images)


def test_artificial_classes_can_be_told_apart():
    data = synthetic(classes=4, images=80, size=8, seed=0)
    means = np.stack([data.train_images[data.train_labels == label].mean(0) for label in range(4)])
    distance = ((data.test_images[:, None].astype(float) - means) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == data.test_labels).all()
    assert not np.array_equal(data.train_images, data.test_images)
    assert np.array_equal(data.train_images, synthetic(classes=4, images=80, size=8, seed=0).train_images)
