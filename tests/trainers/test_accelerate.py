"""SAM under Accelerate equals a plain loop: closures, precision, accumulation, clipping, resume."""

import pytest
import torch
from torch import nn

from samirage import SAM, WarmStart
from tests.trainers.digits import (
    RHO,
    SIZE,
    STEPS,
    alike,
    base,
    batches,
    blocks,
    by_hand,
    decay,
    differ,
    network,
    plain,
    same,
    state,
)

accelerate = pytest.importorskip("accelerate")


class Run:
    """A training script's objects, all prepared by Accelerate."""

    def __init__(self, precision="no", scaler=None, **options):
        accelerate.state.AcceleratorState._reset_state(True)
        self.accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
        if scaler is not None:  # on a GPU "fp16" does this; on a CPU Accelerate leaves it out
            self.accelerator.native_amp, self.accelerator.scaler = True, scaler
        self.model = self.accelerator.prepare(network())
        options = {"rho": RHO, "model": self.model, "scaler": self.accelerator.scaler} | options
        self.sam = SAM(base(self.model), **options)
        self.optimizer, self.scheduler = self.accelerator.prepare(self.sam, decay(self.sam))
        self.accelerator.register_for_checkpointing(self)
        self.records, self.done = [], 0

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, saved):
        self.done = saved["done"]

    def loss(self, batch):
        return nn.functional.cross_entropy(self.model(batch[0]).float(), batch[1])

    def steps(self, n=STEPS, step=None, micro=1):
        parts = batches(SIZE // micro)
        for _ in range(n):
            torch.manual_seed(self.done)
            (step or Run.closure)(self, parts[self.done * micro % len(parts) :][:micro])
            self.scheduler.step()
            self.records.append(self.sam.record)
            self.done += 1
        return self

    def closure(self, parts):
        (batch,) = parts

        def closure():
            self.optimizer.zero_grad()
            loss = self.loss(batch)
            self.accelerator.backward(loss)
            return loss

        self.optimizer.step(closure)

    def accumulate(self, parts):
        self.page(3, parts)

    def clip(self, parts):
        self.page(2, parts)

    def page(self, block, parts):
        """Run a block of the documentation."""
        names = {"sam": self.sam, "optimizer": self.optimizer, "accelerator": self.accelerator, "model": self.model}
        names |= {"loss_of": self.loss, "micro_batches": parts, "batch": parts[0]}
        exec(blocks("howto-accelerate.md")[block], names)


def scaler(**options):
    return torch.amp.GradScaler("cpu", growth_interval=5, **options)


STYLES = [(Run.closure, 1), (Run.accumulate, 1), (Run.accumulate, 2)]


@pytest.mark.parametrize(("step", "micro"), STYLES)
def test_accelerate_equals_sam_by_hand(step, micro):
    run = Run().steps(step=step, micro=micro)
    alike(state(run.model), by_hand(micro=micro))
    differ(state(run.model), by_hand(micro=micro, rho=0.0))


def test_the_clipped_gradient_is_the_shifted_one():
    run = Run().steps(step=Run.clip)
    alike(state(run.model), by_hand(clip=0.1))
    differ(state(run.model), by_hand())


@pytest.mark.parametrize(("step", "micro"), STYLES)
@pytest.mark.parametrize(("precision", "dtype"), [("no", None), ("bf16", torch.bfloat16)])
def test_accelerate_equals_a_plain_loop(precision, dtype, step, micro):
    run = Run(precision).steps(step=step, micro=micro)
    weights, records = plain(micro=micro, dtype=dtype)
    alike(state(run.model), weights, half=dtype is not None)
    for name in ("grad_plus_norm", "loss", "loss_plus"):
        wanted = [getattr(r, name).item() for r in records]
        seen = [getattr(r, name).item() for r in run.records]
        assert seen == pytest.approx(wanted, rel=1e-5 if dtype is None else 1e-2)
    assert all(r.perturbed for r in run.records)
    # The displacement is measured in float32 weights of order 1, so to 1e-4 of rho.
    assert [r.radius.item() for r in run.records] == pytest.approx([RHO] * STEPS, rel=1e-4)


@pytest.mark.parametrize(("step", "micro"), STYLES)
def test_a_positional_closure_through_a_scaler_equals_a_plain_loop_also_after_overflow(step, micro):
    ours, other = scaler(init_scale=2.0**24), scaler(init_scale=2.0**24)
    run = Run("fp16", ours).steps(step=step, micro=micro)
    weights, records = plain(micro=micro, dtype=torch.float16, scaler=other)
    alike(state(run.model), weights, half=True)
    assert [bool(r.skipped) for r in run.records] == [bool(r.skipped) for r in records]
    assert 1 <= sum(bool(r.skipped) for r in records) <= STEPS // 2
    assert ours.get_scale() == other.get_scale()


def test_clipping_in_fp16_clips_the_unscaled_gradient():
    run = Run("fp16", scaler(init_scale=2.0**10)).steps(step=Run.clip)
    same(state(run.model), by_hand(clip=0.1), atol=2e-2)  # half precision leaves 3 digits
    differ(state(run.model), by_hand(), by=0.2)
    assert run.records[-1].radius.item() == pytest.approx(RHO, rel=1e-4)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run_goes_on_from_accelerates_checkpoint(precision, tmp_path):
    def start():
        return Run(precision, scaler() if precision == "fp16" else None, warm_start=WarmStart(steps=14))

    start().steps(10).accelerator.save_state(str(tmp_path))
    second = start()
    second.accelerator.load_state(str(tmp_path))
    second.steps(20)
    whole = start().steps(30)
    alike(state(second.model), state(whole.model), half=precision != "no")
    assert [r.perturbed for r in second.records] == [r.perturbed for r in whole.records[10:]]
    assert [r.perturbed or bool(r.skipped) for r in second.records[4:]] == [True] * 16


def test_a_step_of_one_pass_is_the_base_optimizers():
    run = Run(warm_start=WarmStart(steps=STEPS)).steps()
    alike(state(run.model), by_hand(rho=0.0))
