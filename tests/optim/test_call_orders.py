"""Any order of calls: after each, the weights are where a model of ten lines says, or a sentence says what is wrong."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from samirage import SAM, WarmStart
from samirage.sam import Ramp, Tail
from tests.optim.searching import search

LR = 0.1


class Calls(RuleBasedStateMachine):
    """f(x) = Σ a·x²/2 over two or three tensors; `home` is where the weights must be when nothing holds them at x⁺."""

    @initialize(
        shapes=st.lists(st.sampled_from([(), (3,), (2, 2)]), min_size=2, max_size=2),
        radii=st.lists(st.sampled_from([0.0, 0.3, 2.0]), min_size=2, max_size=2),
        variant=st.sampled_from(["sam", "asam", "unnormalized"]),
        warm=st.sampled_from([0, 1, 3]),
        every=st.sampled_from([1, 2]),
        schedule=st.sampled_from([None, Ramp(steps=2), Ramp(steps=3, start=0.5) * Tail(fraction=0.5, total_steps=8)]),
    )
    def begin(self, shapes, radii, variant, warm, every, schedule):
        self.random = np.random.default_rng(len(str(shapes)) + warm)
        self.params = [self.tensor(shape) for shape in shapes]
        self.scales = [2.0, 0.5]
        groups = [{"params": [p], "rho": rho} for p, rho in zip(self.params, radii, strict=True)]
        self.optimizer = SAM(
            torch.optim.SGD(groups, lr=LR),
            variant=variant,
            warm_start=WarmStart(steps=warm),
            schedule=schedule,
            every=every,
        )
        self.variant, self.warm, self.every, self.schedule = variant, warm, every, schedule
        self.home, self.steps = self.flat(), 0
        self.phase = "rest"  # rest, block (in perturbed()), first (after first_step), waiting (for step())
        self.fresh = False  # whether `.grad` holds the gradient of the pass that is under way
        self.target = None  # what the pending gradient is, by hand

    def tensor(self, shape):
        return torch.nn.Parameter(torch.from_numpy(np.asarray(self.random.uniform(0.5, 2, shape))))

    def flat(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.params])

    def per_entry(self, values):
        return np.concatenate([np.full(p.numel(), v) for p, v in zip(self.params, values, strict=True)])

    def radii(self):
        factor = 1.0 if self.schedule is None else self.schedule(self.steps)
        return factor * self.per_entry([g["rho"] for g in self.optimizer.param_groups])

    def two_pass(self):
        since = self.steps - self.warm
        return since >= 0 and since % self.every == 0 and self.radii().max() > 0

    def x_plus(self):
        x = self.home
        if not self.two_pass():
            return x
        g, rho = self.per_entry(self.scales) * x, self.radii()
        if self.variant == "sam":
            return x + rho * g / np.linalg.norm(g)
        if self.variant == "asam":
            return x + rho * x * x * g / np.linalg.norm(x * g)
        return x + rho * g

    def backward(self, bad=False):
        loss = sum(a * p.square().sum() / 2 for a, p in zip(self.scales, self.params, strict=True))
        loss.backward()
        if bad:
            self.params[0].grad.view(-1)[0] = math.inf
        return loss

    def gradient_at(self, x):
        return self.per_entry(self.scales) * x

    def done(self, gradient):
        if gradient is not None:
            self.home = self.home - LR * gradient
        self.steps += 1
        self.phase, self.fresh, self.target = "rest", False, None
        assert self.optimizer.record.step == self.steps - 1
        assert self.optimizer.record.skipped == (gradient is None)
        self.optimizer.zero_grad()

    def fails(self, call, *arguments):
        before = self.flat()
        with pytest.raises(RuntimeError, match=r"\w+ .*"):
            call(*arguments)
        np.testing.assert_array_equal(self.flat(), before)

    @invariant()
    def the_weights_are_where_they_should_be(self):
        if not hasattr(self, "params"):
            return
        expected = self.x_plus() if self.phase in ("block", "first") and not self.bad_first else self.home
        np.testing.assert_allclose(self.flat(), expected, rtol=1e-10, atol=1e-12)
        assert self.optimizer.two_pass == self.two_pass()

    bad_first = False

    @rule(bad=st.sampled_from([0, 0, 0, 1, 2]), fail=st.booleans())
    def step_with_closure(self, bad, fail):
        if self.phase != "rest":
            self.fails(self.optimizer.step, self.backward)
            return
        calls = []

        def closure():
            self.optimizer.zero_grad()
            calls.append(None)
            loss = self.backward(bad=len(calls) == bad)
            if fail and len(calls) == 2:
                raise KeyboardInterrupt
            return loss

        two_pass = self.two_pass()
        if fail and two_pass and bad != 1:
            with pytest.raises(KeyboardInterrupt):
                self.optimizer.step(closure)
            assert self.optimizer.zero_grad() is None
            self.fresh = False
            return
        expected = None if bad == 1 or (bad == 2 and two_pass) else self.gradient_at(self.x_plus())
        self.optimizer.step(closure)
        assert len(calls) == (2 if two_pass and bad != 1 else 1)
        self.done(expected)

    @rule(bad=st.sampled_from([False, False, False, True]))
    def run_backward(self, bad):
        if self.phase == "waiting" or self.fresh:
            self.optimizer.zero_grad()  # or the gradients would add up
            if self.phase == "waiting":
                self.phase = "rest"
        at = self.flat()
        self.backward(bad)
        self.fresh, self.bad = True, bad
        self.target = None if bad else self.gradient_at(at)

    @rule(style=st.sampled_from(["block", "first"]))
    def enter(self, style):
        call = self.optimizer.first_step if style == "first" else None
        if self.phase != "rest" or not self.fresh:
            block = self.optimizer.perturbed()
            self.fails(call if call else block.__enter__)
            return
        self.bad_first = self.bad and self.two_pass()
        if call:
            call(zero_grad=True)
        else:
            self.block = self.optimizer.perturbed()
            self.block.__enter__()
        self.phase, self.fresh = style, False

    @precondition(lambda self: self.phase == "block")
    @rule(fail=st.booleans())
    def leave_block(self, fail):
        if fail:
            error = ValueError("on purpose")
            assert not self.block.__exit__(ValueError, error, None)  # a true value would swallow the exception
            self.phase, self.fresh = "rest", False
        else:
            self.block.__exit__(None, None, None)
            self.phase = "waiting"

    @rule()
    def step_without_closure(self):
        if self.phase == "waiting":
            if not self.fresh:
                self.fails(self.optimizer.step)
                self.phase = "rest"
                return
            self.optimizer.step()
            self.done(None if self.bad_first else self.target)
        elif self.phase == "rest" and not self.two_pass() and self.fresh:
            self.optimizer.step()
            self.done(self.target)
        elif self.phase != "rest" or self.two_pass():
            self.fails(self.optimizer.step)

    @rule()
    def second_step(self):
        if self.phase != "first":
            self.fails(self.optimizer.second_step)
        elif not self.fresh:
            with pytest.raises(RuntimeError, match="found no gradient from the perturbed pass"):
                self.optimizer.second_step()
            self.phase = "rest"
        else:
            self.optimizer.second_step()
            self.done(None if self.bad_first else self.target)

    @rule()
    def restore(self):
        self.optimizer.restore()
        if self.phase != "rest":
            self.phase, self.fresh = "rest", False

    @precondition(lambda self: self.phase in ("rest", "waiting"))
    @rule()
    def zero_grad(self):
        self.optimizer.zero_grad()
        self.phase, self.fresh = "rest", False

    @precondition(lambda self: self.phase == "rest")
    @rule(how=st.sampled_from(["deepcopy", "pickle", "state_dict"]))
    def save_and_load(self, how):
        if how == "state_dict":
            params = [torch.nn.Parameter(p.detach().clone()) for p in self.params]
            fresh = SAM(
                torch.optim.SGD([{"params": [p]} for p in params], lr=7.0),
                variant=self.variant,
                warm_start=WarmStart(steps=self.warm),
                schedule=self.schedule,
                every=self.every,
            )
            fresh.load_state_dict(self.optimizer.state_dict())
            self.optimizer = fresh
        else:
            copies = {"deepcopy": copy.deepcopy, "pickle": lambda o: pickle.loads(pickle.dumps(o))}
            self.optimizer = copies[how](self.optimizer)
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.zero_grad()
        self.fresh = False

    @precondition(lambda self: self.phase in ("block", "first"))
    @rule()
    def no_saving_at_x_plus(self):
        self.fails(self.optimizer.state_dict)
        self.fails(copy.deepcopy, self.optimizer)

    @precondition(lambda self: self.phase == "rest" and not self.fresh)
    @rule(group=st.sampled_from([0, 1]), rho=st.sampled_from([0.0, 0.1, 1.5]))
    def change_a_radius(self, group, rho):
        self.optimizer.param_groups[group]["rho"] = rho

    @precondition(lambda self: self.phase == "rest" and not self.fresh and len(self.params) < 4)
    @rule()
    def add_a_group(self):
        p = self.tensor((2,))
        self.optimizer.add_param_group({"params": [p], "rho": 0.7, "lr": LR})
        self.params.append(p)
        self.scales = [*self.scales, 1.5]
        self.home = self.flat()


TestCalls = Calls.TestCase
TestCalls.settings = search(60, stateful_step_count=30)
