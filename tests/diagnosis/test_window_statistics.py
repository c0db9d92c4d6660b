"""Windows over a run, fed by hand."""

import math

import pytest
import torch

from samirage.diagnosis.figures import MEANINGS, values_of
from samirage.diagnosis.window_statistics import Watch
from samirage.sam import dot, norm, plain_figures, step_figures


def motion(n=64, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    g = 1 + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return g, 0.5 * g + torch.randn(n, d, generator=generator, dtype=torch.float64)


def figures_of(g, d, batched=False):
    length = norm([g], batched=batched)
    return step_figures(
        loss=length + 1,
        loss_plus=length + 1.5,
        grad_norm=length,
        predicted_gain=dot([g], [g], batched=batched),
        displacement=[g],
        grads_plus=[d],
        batched=batched,
    )


def feed(watch, gs, ds):
    for g, d in zip(gs, ds, strict=True):
        watch.saw_gradient([g])
        watch.saw_step([d], figures_of(g, d, batched=g.dim() == 2))


def test_figures_are_those_of_the_last_window_whatever_came_before():
    g, d = motion()
    long, short = Watch(window=32), Watch(window=32)
    feed(long, g, d)
    feed(short, g[32:], d[32:])
    assert [w.last_step for w in long.windows] == [15, 31, 47, 63]
    assert [w.steps for w in long.windows] == [16, 32, 32, 32]
    (ours,), (other,) = values_of(long.windows[-1]), values_of(short.windows[-1])
    assert set(ours) == set(MEANINGS)
    for name in set(ours) - {"loss_drop", "grad_fraction", "grad_plus_fraction"}:  # which compare with the beginning
        if name not in {"successive_cosine", "transverse_cosine"}:  # which know the step before the window
            assert ours[name] == pytest.approx(other[name], rel=1e-12, nan_ok=True), name
    mean = g[32:].mean(0).norm() / g[32:].norm(dim=1).mean()
    assert ours["grad_coherence"] == pytest.approx(mean.item(), rel=1e-12)


def test_now_holds_between_half_a_window_and_a_window():
    g, d = motion(n=40)
    watch = Watch(window=32)
    feed(watch, g, d)
    assert watch.now().steps == 24  # 16 of the last half that is complete, and 8 since


def test_a_window_is_a_multiple_of_8():
    assert Watch(window=50).window == 48


def test_every_member_has_the_figures_that_it_has_alone():
    several = [motion(seed=seed) for seed in range(3)]
    watch = Watch(window=64, batched=True)
    feed(watch, *(torch.stack([one[i] for one in several], 1) for i in range(2)))
    together = values_of(watch.windows[-1])
    for member, (g, d) in enumerate(several):
        alone = Watch(window=64)
        feed(alone, g, d)
        (values,) = values_of(alone.windows[-1])
        for name, value in values.items():
            assert together[member][name] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def test_steps_that_are_not_finite_leave_the_others_figures_as_they_are():
    g, d = motion(n=32)
    clean, dirty = Watch(window=32), Watch(window=32)
    feed(clean, g, d)
    broken = d.clone()
    broken[9] = math.inf
    feed(dirty, g, broken)
    (expected,), (values,) = values_of(clean.windows[-1]), values_of(dirty.windows[-1])
    assert values["finite_share"] == 31 / 32
    assert math.isfinite(values["motion_coherence"])
    kept = torch.arange(32) != 9
    coherence = g[kept].mean(0).norm() / g[kept].norm(dim=1).mean()
    assert values["grad_coherence"] == pytest.approx(coherence.item(), rel=1e-12)
    assert values["grad_coherence"] != expected["grad_coherence"]


def test_of_the_gradients_of_shards_the_mean_counts():
    g, d = motion(n=32)
    one, two = Watch(window=32), Watch(window=32, shards=2)
    feed(one, g, d)
    for a, b in zip(g, d, strict=True):
        two.saw_gradient([0.5 * a])
        two.saw_gradient([1.5 * a])
        two.saw_step([b], figures_of(a, b))
    (expected,), (values,) = values_of(one.windows[-1]), values_of(two.windows[-1])
    assert values == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_a_2_cycle_looks_the_same_in_both_sets_of_steps():
    """g = slope ± bounce and d = slope/5 ± bounce: sets of every other step would hold one side of the bounce each."""
    slope, bounce = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 7.0], dtype=torch.float64)
    sign = (-1.0) ** torch.arange(64, dtype=torch.float64)[:, None]
    watch = Watch(window=64)
    feed(watch, slope + sign * bounce, 0.2 * slope + sign * bounce)
    (values,) = values_of(watch.windows[-1])
    assert values["descent_efficiency"] == pytest.approx(0.2, rel=1e-12)


def test_plain_steps_have_no_motion():
    watch = Watch(window=16)
    for i in range(16):
        watch.saw_plain_step(plain_figures(loss=torch.tensor(2.0 - i / 16), grad_norm=torch.tensor(1.0)))
    (values,) = values_of(watch.windows[-1])
    assert values["perturbed_share"] == 0
    assert values["loss_trend"] < -0.5
    assert math.isnan(values["motion_coherence"])
    assert math.isnan(values["shift_ratio"])


def test_rejected_steps_are_counted_among_those_with_two_passes():
    g, d = motion(n=16)
    watch = Watch(window=16)
    for i, (a, b) in enumerate(zip(g, d, strict=True)):
        if i < 4:
            watch.saw_plain_step(plain_figures(loss=norm([a]), grad_norm=norm([a])))
        else:
            watch.saw_gradient([a])
            watch.saw_step([b], figures_of(a, b), followed=torch.tensor(i % 4 != 0))
    (values,) = values_of(watch.windows[0])
    assert values_of(watch.windows[-1])[0]["rejected_share"] == pytest.approx(3 / 12)
    assert values["rejected_share"] == pytest.approx(1 / 4)  # half a window: steps 0 to 7


def test_nothing_can_be_said_before_the_first_step():
    with pytest.raises(ValueError, match="the monitor has seen no step yet: train for some steps first"):
        Watch().now()
