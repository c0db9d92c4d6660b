"""ASAM's options, GSAM and LookSAM as an optimizer's variants: by hand, at their limits, skipped, saved and copied."""

import copy
import io
import math
import pickle
import warnings

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from samirage.sam import ASAM, GSAM, LookSAM, Ramp
from tests.optim.problems import BASES, STYLES, Cubic, every_style, take

K = 3
VARIANTS = {"asam": ASAM(eta=0.3, biases=False), "gsam": GSAM(alpha=0.6), "looksam": LookSAM(k=K, alpha=0.5)}
KEPT = [GSAM(alpha=0.6), LookSAM(k=K, alpha=0.5)]
NAMES = ["layer.weight", "layer.bias", "head.in_proj_bias", "unused"]
IS_BIAS = np.repeat([False, True, True], [6, 1, 4])


def named_groups(problem, **second):
    first, last = problem.groups(**second)
    return [
        {**group, "params": list(zip(names, group["params"], strict=True))}
        for group, names in [(first, NAMES[:2]), (last, NAMES[2:])]
    ]


class ByHand:
    """What the base optimizer is to follow at each step, in NumPy over the whole vector; `None`: plain SAM."""

    def __init__(self, variant, problem, radii):
        self.variant, self.a, self.radii, self.t, self.g_v = variant, problem.coefficients(), radii, 0, None

    def direction(self, x):
        g = self.a * x**2
        first = not isinstance(self.variant, LookSAM) or self.t % self.variant.k == 0
        self.t += 1
        if not first:
            return g + self.variant.alpha * np.linalg.norm(g) / np.linalg.norm(self.g_v) * self.g_v
        scale = np.ones_like(x)
        if isinstance(self.variant, ASAM):
            scale = np.where(IS_BIAS & (not self.variant.biases), 1.0, np.abs(x) + self.variant.eta)
        g_plus = self.a * (x + self.radii * scale**2 * g / np.linalg.norm(scale * g)) ** 2
        self.g_v = g_plus - (g @ g_plus) / (g @ g) * g
        if isinstance(self.variant, GSAM):
            return g_plus - self.variant.alpha * (g - (g @ g_plus) / (g_plus @ g_plus) * g_plus)
        return g_plus


def step_along(base, problem, direction):
    parts = np.split(direction, np.cumsum([p.numel() for p in problem.params])[:-1])
    for p, part in zip(problem.params, parts, strict=True):
        p.grad = torch.from_numpy(part.reshape(p.shape)).to(p.dtype)
    base.step()


@every_style
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_follows_its_direction_by_hand_and_not_sams(name, base, style):
    problem, twin, plain = Cubic(), Cubic(), Cubic()
    optimizer = SAM(BASES[base](named_groups(problem, rho=0.2)), rho=0.7, variant=VARIANTS[name])
    sam = SAM(BASES[base](plain.groups(rho=0.2)), rho=0.7)
    other = BASES[base](twin.groups())
    by_hand = ByHand(VARIANTS[name], problem, np.repeat([0.7, 0.2], [7, 4]))
    for _ in range(2 * K + 1):
        step_along(other, twin, by_hand.direction(twin.flat()))
        take(style, optimizer, problem)
        take(style, sam, plain)
        np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-12)
    assert np.abs(problem.flat() - plain.flat()).max() > 1e-3
    assert problem.unused.grad is None
    assert (problem.unused == 1).all()


@every_style
@pytest.mark.parametrize("variant", [GSAM(alpha=0.0), LookSAM(k=1, alpha=0.5)])
def test_the_limits_that_are_sam_are_so_bit_for_bit(variant, style):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups(rho=0.2)), rho=0.7, variant=variant)
    sam = SAM(BASES["adam"](twin.groups(rho=0.2)), rho=0.7)
    for _ in range(5):
        take(style, optimizer, problem)
        take(style, sam, twin)
        np.testing.assert_array_equal(problem.flat(), twin.flat())
        for name in ("grad_norm", "grad_plus_norm", "shift_ratio", "slope_plus", "radius"):
            value, expected = getattr(optimizer.record, name).item(), getattr(sam.record, name).item()
            assert value == pytest.approx(expected, rel=1e-13)


@every_style
def test_looksam_without_reuse_is_sam_in_every_kth_step(style):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, variant=LookSAM(k=3, alpha=0.0))
    sam = SAM(BASES["adam"](twin.groups()), rho=0.7, every=3)
    for _ in range(7):
        take(style, optimizer, problem)
        take(style, sam, twin)
        np.testing.assert_array_equal(problem.flat(), twin.flat())


@every_style
def test_looksam_takes_one_pass_in_all_but_every_kth_step(style):
    problem = Cubic()
    optimizer = SAM(BASES["sgd"](problem.groups()), rho=0.7, variant=LookSAM(k=5), warm_start=WarmStart(steps=2))
    perturbed = []
    for _ in range(13):
        if style == "closure" or optimizer.two_pass:
            take(style, optimizer, problem)
        else:
            optimizer.zero_grad()
            problem.backward()
            optimizer.step()
        perturbed.append(optimizer.record.perturbed)
    assert [t for t, two in enumerate(perturbed) if two] == [2, 7, 12]
    assert problem.calls == 13 + 3


@pytest.mark.parametrize("variant", KEPT)
def test_steps_without_sam_are_the_base_optimizers_bit_for_bit(variant):
    problem, twin = Cubic(), Cubic()
    policies = {"warm_start": WarmStart(steps=2), "schedule": lambda step: float(step < 6)}
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, variant=variant, **policies)
    plain = BASES["adam"](twin.groups())
    for t in range(10):
        if 2 <= t < 6:  # SAM's own, and LookSAM's reuse
            take("closure", optimizer, problem)
            with torch.no_grad():
                for p, q in zip(twin.params, problem.params, strict=True):
                    p.copy_(q)
            state = copy.deepcopy(optimizer.state_dict())
            plain.load_state_dict({**state, "param_groups": plain.state_dict()["param_groups"]})
            continue
        take("closure", optimizer, problem)
        plain.step(twin.closure(plain))
        np.testing.assert_array_equal(problem.flat(), twin.flat())
        assert not optimizer.record.perturbed


@pytest.mark.parametrize("weights", [[1.7], [1.7, 0.3, -0.6]])
def test_where_all_gradients_are_parallel_no_rounding_error_is_reused(weights):
    a = torch.tensor([0.37, 0.11, 0.29])[: len(weights)]
    w, twin = (torch.tensor(weights, requires_grad=True) for _ in range(2))
    optimizer = SAM(torch.optim.SGD([w], lr=0.01), rho=0.3, variant=LookSAM(k=4, alpha=100.0))
    sam = SAM(torch.optim.SGD([twin], lr=0.01), rho=0.3, every=4)
    for _ in range(9):
        for x, o in [(w, optimizer), (twin, sam)]:

            def closure(x=x, o=o):
                o.zero_grad()
                loss = (a @ x + 0.1).pow(3)
                loss.backward()
                return loss

            o.step(closure)
        assert w.tolist() == twin.tolist()


@pytest.mark.parametrize("bad_pass", [1, 2])
@pytest.mark.parametrize("variant", KEPT)
def test_a_skipped_step_changes_neither_weights_nor_what_is_kept(variant, bad_pass):
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, variant=variant)
    for _ in range(K):
        take("closure", optimizer, problem)
    weights, state = problem.flat(), copy.deepcopy(optimizer.state_dict()["state"])
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = problem.backward()
        calls.append(None)
        if len(calls) == bad_pass:
            problem.params[2].grad[1] = math.inf
        return loss

    optimizer.step(closure)
    assert optimizer.record.skipped
    np.testing.assert_array_equal(problem.flat(), weights)
    assert str(optimizer.state_dict()["state"]) == str(state)
    take("closure", optimizer, problem)
    assert np.isfinite(problem.flat()).all()
    assert not optimizer.record.skipped


def through_torch_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_style
@pytest.mark.parametrize("base", BASES)
def test_looksam_saved_between_two_sam_steps_continues_bit_for_bit(base, style):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES[base](problem.groups()), rho=0.7, variant=LookSAM(k=4, alpha=0.5))
    for _ in range(2):
        take(style, optimizer, problem)
    other = SAM(BASES[base](twin.groups()), rho=0.7, variant=LookSAM(k=4, alpha=0.5))
    other.load_state_dict(through_torch_save(optimizer.state_dict()))
    with torch.no_grad():
        for p, q in zip(twin.params, problem.params, strict=True):
            p.copy_(q)
    for _ in range(4):
        take(style, optimizer, problem)
        take(style, other, twin)
        np.testing.assert_array_equal(problem.flat(), twin.flat())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("variant", KEPT)
def test_copies_continue_bit_for_bit_and_apart(variant, duplicate):
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, variant=variant)
    take("closure", optimizer, problem)
    other = duplicate(optimizer)
    assert other.variant == variant
    twin = Cubic()
    twin.params = [p for group in other.param_groups for p in group["params"]][:3]
    for style in [*STYLES, *STYLES]:
        take(style, optimizer, problem)
        before = twin.flat()
        take(style, other, twin)
        np.testing.assert_array_equal(problem.flat(), twin.flat())
        assert (before != twin.flat()).all()


@pytest.mark.parametrize("base", ["sgd", "adam"])
@pytest.mark.parametrize("warm", [0, 4])
def test_a_distributed_checkpoint_between_two_sam_steps_continues_bit_for_bit(base, warm, tmp_path):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    def run(seed):
        torch.manual_seed(seed)
        model = torch.nn.Linear(4, 3).double()
        variant = LookSAM(k=4, alpha=0.5)
        return model, SAM(BASES[base](model.parameters()), rho=0.7, variant=variant, warm_start=WarmStart(steps=warm))

    def step(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(x).pow(4).mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    x = torch.randn(5, 4, dtype=torch.float64)
    model, optimizer = run(1)
    for _ in range(warm + 2):
        step(model, optimizer)
    optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about running without a process group
        state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
        checkpoint.save(state, checkpoint_id=tmp_path, no_dist=True)
        other_model, other = run(2)
        state = {"model": other_model.state_dict(), "optimizer": get_optimizer_state_dict(other_model, other)}
        checkpoint.load(state, checkpoint_id=tmp_path, no_dist=True)
        other_model.load_state_dict(state["model"])
        set_optimizer_state_dict(other_model, other, state["optimizer"])
    for _ in range(4):
        step(model, optimizer)
        step(other_model, other)
        assert torch.equal(model.weight, other_model.weight)


def test_a_ramp_from_zero_leaves_looksam_nothing_to_reuse_at_first():
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["sgd"](problem.groups()), rho=0.7, variant=LookSAM(k=3, alpha=0.5), schedule=Ramp(steps=3))
    plain = BASES["sgd"](twin.groups())
    for _ in range(3):
        take("closure", optimizer, problem)
        plain.step(twin.closure(plain))
        np.testing.assert_array_equal(problem.flat(), twin.flat())
    take("closure", optimizer, problem)
    assert optimizer.record.perturbed
