"""The ensemble engine against the NumPy reference, against single members, and against its own two paths."""

import signal
import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from samirage.lab.engine.compute import compute
from samirage.lab.engine.ensemble import FIGURES, Recipe, train
from samirage.lab.engine.models import MLP, softmax_squared
from samirage.lab.engine.stacked import MLPStack, ModuleStack
from samirage.optim import SAM
from samirage.sam import ASAM, GSAM, SINGLE, AbstractVariant, Guard, LookSAM, WarmStart
from samirage.sam.variants import FriendlySAM, radial
from tests import reference

IN, HIDDEN, CLASSES, IMAGES, SEEDS = 7, 5, 4, 12, 3


def problem(seed):
    rng = np.random.default_rng(100)
    x, labels = rng.normal(0, 1, (IMAGES, IN)), rng.integers(0, CLASSES, IMAGES)
    rng = np.random.default_rng(seed)
    shapes = [(HIDDEN, IN), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    return [rng.normal(0, 0.6, shape) for shape in shapes], x, labels


def members(path, seeds=range(SEEDS), dtype=torch.float64):
    modules = []
    for seed in seeds:
        params, x, labels = problem(seed)
        module = MLP([IN, HIDDEN, CLASSES]).to(dtype)
        with torch.no_grad():
            for p, value in zip(module.parameters(), params, strict=True):
                p.copy_(torch.from_numpy(value))
        modules.append(module)
    return path(modules, softmax_squared, torch.from_numpy(x).to(dtype), torch.from_numpy(labels))


def logits(params, x):
    w1, b1, w2, b2 = params
    return np.tanh(x @ w1.T + b1) @ w2.T + b2


PATHS = [MLPStack, ModuleStack]
RULES = [("plain", 0.0), ("sam", 0.05), ("sam", 2.5), ("asam", 0.3), ("asam", 1.7), ("unnormalized", 0.4)]


@pytest.mark.parametrize(("rule", "rho"), RULES)
@pytest.mark.parametrize("path", PATHS)
def test_agrees_with_the_reference_over_100_steps(path, rule, rho):
    stack = members(path)
    course = train(stack, Recipe(steps=100, lr=0.2, rho=rho, variant="sam" if rule == "plain" else rule))
    for seed in range(SEEDS):
        params, x, labels = problem(seed)
        onehot = np.eye(CLASSES)[labels]
        expected, losses = reference.train(params, x, onehot, rule=rule, rho=rho, lr=0.2, steps=100)
        # As for the optimizer: rounding of 1e-16 a step, amplified by no more than about 1e2.
        np.testing.assert_allclose(course["loss"][:, seed].numpy(), losses, rtol=0, atol=1e-12)
        outputs = stack.logits(torch.from_numpy(x))[seed].numpy()
        np.testing.assert_allclose(outputs, logits(expected, x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("path", PATHS)
def test_figures_of_a_step_against_the_reference(path):
    rho = 1.3
    course = train(members(path), Recipe(steps=1, lr=0.2, rho=rho))
    for seed in range(SEEDS):
        params, x, labels = problem(seed)
        onehot = np.eye(CLASSES)[labels]
        loss, grads = reference.loss_and_grads(params, x, onehot)
        loss_plus, grads_plus = reference.loss_and_grads(reference.perturbed(params, grads, "sam", rho), x, onehot)
        g, g_plus = (np.concatenate([a.ravel() for a in arrays]) for arrays in (grads, grads_plus))
        norm, norm_plus, slope = np.linalg.norm(g), np.linalg.norm(g_plus), g @ g_plus / np.linalg.norm(g)
        expected = {
            "loss": loss,
            "loss_plus": loss_plus,
            "grad_norm": norm,
            "grad_plus_norm": norm_plus,
            "shift_ratio": norm_plus / norm,
            "ascent_gain": (loss_plus - loss) / (rho * norm),
            "slope_plus": slope,
            "cosine": slope / norm_plus,
            "radius": rho,
        }
        assert expected.keys() == set(FIGURES)
        for name, value in expected.items():
            assert course[name][0, seed].item() == pytest.approx(value, rel=1e-11), name


def test_the_cosine_of_asam_is_that_of_the_two_gradients():
    course = train(members(MLPStack), Recipe(steps=1, lr=0.2, rho=1.3, variant="asam"))
    params, x, labels = problem(1)
    onehot = np.eye(CLASSES)[labels]
    _, grads = reference.loss_and_grads(params, x, onehot)
    _, grads_plus = reference.loss_and_grads(reference.perturbed(params, grads, "asam", 1.3), x, onehot)
    g, g_plus = (np.concatenate([a.ravel() for a in arrays]) for arrays in (grads, grads_plus))
    cosine = g @ g_plus / np.linalg.norm(g) / np.linalg.norm(g_plus)
    assert course["cosine"][0, 1].item() == pytest.approx(cosine, rel=1e-11)


@dataclass(frozen=True)
class Averaging(AbstractVariant):
    """A variant of the user's own: looks along an average of the gradients, and follows the mean of g and g⁺."""

    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        average = [(m + g) / 2 for m, g in zip(state.get("m", grads), grads, strict=True)]
        return radial(average, reduce.norm(average), rho, reduce), {"m": average}

    def direction(self, grads, grads_plus, state, reduce=SINGLE):
        return [(g + q) / 2 for g, q in zip(grads, grads_plus or grads, strict=True)], state


@pytest.mark.parametrize(
    "options",
    [
        {"variant": GSAM(alpha=0.6)},
        {"variant": GSAM(), "guard": Guard(), "rho": 2.5},
        {"variant": LookSAM(k=3, alpha=0.5)},
        {"variant": LookSAM(), "warm_start": WarmStart(steps=7)},
        {"variant": LookSAM(k=4), "guard": Guard(), "rho": 2.5, "momentum": 0.9, "lr": 0.02},
        {"variant": ASAM(eta=0.1, biases=True), "rho": 1.7},
        {"variant": FriendlySAM(sigma=0.4, lmbda=0.7)},
        {"variant": FriendlySAM(sigma=0.3), "guard": Guard(), "rho": 2.5},
        {"variant": Averaging(), "momentum": 0.5},
    ],
    ids=lambda options: " ".join(str(part) for part in options.values()),
)
@pytest.mark.parametrize("path", PATHS)
def test_variants_that_are_objects_are_those_of_the_optimizer_over_60_steps(path, options):
    recipe = Recipe(**{"steps": 60, "lr": 0.2, "rho": 0.4, **options})
    stack = members(path)
    course = train(stack, recipe)
    _, x, labels = problem(0)
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)
    for seed in range(SEEDS):
        (module,) = members(ModuleStack, [seed]).modules()
        base = torch.optim.SGD(module.parameters(), lr=recipe.lr, momentum=recipe.momentum)
        optimizer = SAM(base, rho=recipe.rho, variant=recipe.variant, warm_start=recipe.warm_start, guard=recipe.guard)
        for step in range(recipe.steps):
            passes = []

            def closure(module=module, optimizer=optimizer, passes=passes):
                passes.append(1)
                optimizer.zero_grad()
                loss = softmax_squared(module(x), labels)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            # Rounding of 1e-16 a step, amplified by no more than about 1e4.
            assert course["loss"][step, seed].item() == pytest.approx(loss.item(), abs=1e-12)
            assert course["passes"][step, seed].item() == len(passes)
            if optimizer.record.perturbed:
                ratio = optimizer.record.shift_ratio.item()
                assert course["shift_ratio"][step, seed].item() == pytest.approx(ratio, rel=1e-10)
        torch.testing.assert_close(stack.logits(x)[seed], module(x).detach(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("path", PATHS)
def test_a_warm_start_is_plain_then_sam(path):
    warm = train(members(path), Recipe(steps=30, lr=0.2, rho=1.0, warm_start=WarmStart(steps=12)))
    plain = train(members(path), Recipe(steps=30, lr=0.2))
    assert torch.equal(warm["loss"][:13], plain["loss"][:13])
    assert not torch.allclose(warm["loss"][13], plain["loss"][13], rtol=1e-4)
    assert warm["shift_ratio"][:12].isnan().all()
    assert warm["shift_ratio"][12:].isfinite().all()


@pytest.mark.parametrize("path", PATHS)
def test_minibatches_are_epochs_of_shuffled_examples(path):
    seen = []
    stack = members(path)
    inner = stack.loss_and_grads
    stack.loss_and_grads = lambda params, grads, rows=None: (seen.append(rows), inner(params, grads, rows))[1]
    train(stack, Recipe(steps=6, lr=0.2, rho=0.1, batch_size=5))
    first_passes, second_passes = seen[0::2], seen[1::2]
    assert all(torch.equal(a, b) for a, b in zip(first_passes, second_passes, strict=True))
    assert [len(rows) for rows in first_passes] == [5, 5, 2, 5, 5, 2]
    epochs = [torch.cat(first_passes[:3]), torch.cat(first_passes[3:])]
    assert all(sorted(epoch.tolist()) == list(range(IMAGES)) for epoch in epochs)
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("path", PATHS)
def test_members_do_not_mix(path):
    # In float64 the products may be blocked differently for another number of members: equal to rounding, no better.
    together = train(members(path), Recipe(steps=40, lr=0.2, rho=0.7))
    for seed in range(SEEDS):
        alone = train(members(path, [seed]), Recipe(steps=40, lr=0.2, rho=0.7))
        torch.testing.assert_close(alone["loss"][:, 0], together["loss"][:, seed], rtol=0, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
def test_a_diverging_member_is_recorded_and_the_others_go_on(path):
    stack = members(path)
    with torch.no_grad():
        stack.params[0][1].fill_(torch.inf)
    course = train(stack, Recipe(steps=40, lr=0.2, rho=0.7))
    healthy = train(members(path), Recipe(steps=40, lr=0.2, rho=0.7))
    assert course["loss"][:, 1].isnan().all()
    for seed in (0, 2):
        assert torch.equal(course["loss"][:, seed], healthy["loss"][:, seed])


def test_training_repeats_bit_for_bit():
    recipe = Recipe(steps=50, lr=0.5, rho=2.0, batch_size=5)
    runs = [train(members(MLPStack, dtype=torch.float32), recipe) for _ in range(2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in FIGURES)


def test_float32_follows_float64():
    exact = train(members(MLPStack), Recipe(steps=20, lr=0.2, rho=0.5))
    single = train(members(MLPStack, dtype=torch.float32), Recipe(steps=20, lr=0.2, rho=0.5))
    # Rounding of 1e-7 a step over 20 steps, amplified by no more than ten.
    torch.testing.assert_close(single["loss"].double(), exact["loss"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
        ({"lr": 0.0}, "lr must be a finite number above 0; got 0.0"),
        ({"lr": float("inf")}, "lr must be a finite number above 0; got inf"),
        ({"rho": -0.1}, "rho must be a finite number of at least 0; got -0.1"),
        ({"rho": float("nan")}, "rho must be a finite number of at least 0; got nan"),
        ({"variant": "lookahead"}, "got 'lookahead'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
    ],
)
def test_wrong_recipes_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"steps": 5, "lr": 0.1, **setting})


def test_denormals_are_flushed_in_all_threads_and_settings_come_back():
    threads = torch.get_num_threads()
    tiny = torch.full((4_000_000,), 1e-39)  # enough elements for all threads
    assert (tiny * 0.5 != 0).all()
    # The pool of this thread exists already, without the setting; compared as bits, lest the comparison flush.
    number, bits = compute(lambda: (torch.get_num_threads(), (tiny * 0.5).view(torch.int32)), threads=2)
    assert number == 2
    assert (bits == 0).all()
    assert torch.get_num_threads() == threads
    assert ((tiny * 0.5).view(torch.int32) != 0).all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_a_computed_task_raises_is_raised_and_an_interrupted_caller_stops_it():
    def fails():
        raise ArithmeticError("as planted")

    with pytest.raises(ArithmeticError, match="as planted"):
        compute(fails, threads=1)

    stop = threading.Event()
    ends = []
    interruption = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    try:
        interruption.start()
        with pytest.raises(KeyboardInterrupt):
            compute(lambda: ends.append(stop.wait(timeout=30)), threads=1, stop=stop)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert ends == [True]
