"""The sample of coordinates: exact where all fit, right on average where not, the same every time."""

import pytest
import torch

from samirage.diagnosis.sample import CoordinateSample


def tensors(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_a_model_that_fits_is_taken_whole():
    values = tensors((3, 4), (), (5,))
    sample = CoordinateSample(values, size=18)
    assert sample.exact
    torch.testing.assert_close(sample(values), torch.cat([v.reshape(-1) for v in values]), rtol=0, atol=0)


def test_small_tensors_are_taken_whole_and_large_ones_share_the_rest():
    values = tensors((10,), (1000,), (2000,))
    taken = CoordinateSample(values, size=110)
    assert not taken.exact
    ones = [torch.zeros(10), torch.ones(1000), torch.zeros(2000)]
    assert taken(values).shape == (110,)
    torch.testing.assert_close(taken(values)[:10], values[0], rtol=0, atol=0)
    assert (taken(ones) != 0).sum() == 50


@pytest.mark.parametrize("seed", range(3))
def test_inner_products_are_right_within_the_stated_error(seed):
    a, b = tensors((40, 50), (3000,), (7,)), tensors((40, 50), (3000,), (7,), seed=1)
    b = [p + q for p, q in zip(a, b, strict=True)]
    size, kurtosis = 1007, 3
    sample = CoordinateSample(a, size=size, seed=seed)
    x, y = sample(a), sample(b)
    for p, q, s, t in ((a, a, x, x), (a, b, x, y)):
        whole = sum((u * v).sum() for u, v in zip(p, q, strict=True))
        lengths = [sum(u.square().sum() for u in one).sqrt() for one in (p, q)]
        assert abs((s * t).sum() - whole) < 4 * (kurtosis / size) ** 0.5 * lengths[0] * lengths[1]


def test_inner_products_are_right_on_average():
    a = tensors((900,), (33,))
    found = torch.stack([CoordinateSample(a, size=50, seed=s)(a).square().sum() for s in range(400)])
    whole = sum(u.square().sum() for u in a)
    assert abs(found.mean() - whole) < 3 * found.std() / 20
    assert found.std() > 0.02 * whole  # so that the seeds really choose


def test_members_of_a_batch_have_the_same_coordinates():
    values = tensors((5, 30, 4), (5,), (5, 200))
    sample = CoordinateSample(values, size=60, batched=True)
    together = sample(values)
    assert together.shape == (5, 60)
    alone = CoordinateSample([v[2] for v in values], size=60)([v[2] for v in values])
    torch.testing.assert_close(together[2], alone, rtol=0, atol=0)


def test_the_layout_in_memory_does_not_matter():
    (value,) = tensors((8, 6, 5, 5))
    sample = CoordinateSample([value], size=100)
    torch.testing.assert_close(sample([value.to(memory_format=torch.channels_last)]), sample([value]), rtol=0, atol=0)


def test_missing_gradients_are_zero_and_half_precision_is_widened():
    values = [torch.ones(300, dtype=torch.bfloat16), torch.ones(4, dtype=torch.bfloat16)]
    sampled = CoordinateSample(values, size=20)([None, values[1]])
    assert sampled.dtype == torch.float32
    assert sampled.count_nonzero() == 4


def test_the_sample_is_a_copy():
    (value,) = tensors((7,))
    sampled = CoordinateSample([value], size=7)([value])
    value.zero_()
    assert sampled.count_nonzero() == 7


def test_a_number_for_each_tensor_is_spread_over_its_coordinates():
    sample = CoordinateSample(tensors((300,), (4,)), size=20)
    assert sample.spread([0.5, 2.0]).tolist() == [0.5] * 16 + [2.0] * 4


def test_shares_weigh_the_products():
    values = tensors((50,), (60,))
    whole = [v.square().sum() for v in values]
    sampled = CoordinateSample(values, size=200, shares=[0.25, 1.0])(values)
    torch.testing.assert_close(sampled.square().sum(), 0.25 * whole[0] + whole[1])
