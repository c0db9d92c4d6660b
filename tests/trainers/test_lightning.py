"""SAM under Lightning equals a plain loop: precision, accumulation, clipping, resume, logs."""

import logging

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

pl = pytest.importorskip("pytorch_lightning")
from pytorch_lightning.plugins import MixedPrecision  # noqa: E402

from samirage.trainers.lightning import SAMCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # advice that is wrong for data in memory
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6 uses what torch 2.13 deprecates
]


class Module(pl.LightningModule):
    def __init__(self, micro=1, **options):
        super().__init__()
        self.net, self.micro, self.options = network(), micro, {"rho": RHO} | options
        self.losses, self.outputs, self.records = [], [], []

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])
        self.losses.append(loss.item())
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.outputs.append(outputs["loss"].item())
        self.records.append(self.optimizers().record)

    def configure_optimizers(self):
        optimizer = SAM(base(self.net), model=self.net, **self.options)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay(optimizer), "interval": "step"}}


class Seed(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx % trainer.accumulate_grad_batches == 0:
            torch.manual_seed(trainer.global_step)


def fit(module, *, callbacks=(SAMCallback,), steps=STEPS, resume=None, **options):
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    micro = getattr(module, "micro", 1)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=steps,
        accumulate_grad_batches=micro,
        callbacks=[Seed(), *(make() for make in callbacks)],
        **{"enable_checkpointing": False} | options,
    )
    loader = torch.utils.data.DataLoader(batches(SIZE // micro), batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


def fp16(**options):
    """What `precision="16-mixed"` chooses on a GPU; on a CPU it falls back to bfloat16."""
    scaler = torch.amp.GradScaler("cpu", growth_interval=5, **options)
    return scaler, MixedPrecision("16-mixed", "cpu", scaler)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("micro", [1, 2])
def test_lightning_equals_sam_by_hand(micro, clip):
    module = Module(micro)
    trainer = fit(module, gradient_clip_val=clip)
    assert trainer.global_step == STEPS
    alike(state(module.net), by_hand(micro=micro, clip=clip))
    differ(state(module.net), by_hand(micro=micro, clip=clip, rho=0.0))
    if clip is not None:
        differ(state(module.net), by_hand(micro=micro))


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize(("precision", "dtype"), [("32-true", None), ("bf16-mixed", torch.bfloat16)])
def test_lightning_equals_a_plain_loop(precision, dtype, micro):
    module = Module(micro)
    fit(module, precision=precision)
    weights, records = plain(micro=micro, dtype=dtype)
    alike(state(module.net), weights, half=dtype is not None)
    seen = module.records[micro - 1 :: micro]
    norms = [r.grad_plus_norm.item() for r in records]
    assert [r.grad_plus_norm.item() for r in seen] == pytest.approx(norms, rel=1e-5 if dtype is None else 1e-2)
    assert all(r.perturbed for r in seen)
    # The displacement is measured in float32 weights of order 1, so to 1e-4 of rho.
    assert [r.radius.item() for r in seen] == pytest.approx([RHO] * STEPS, rel=1e-4)


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("told", [False, True])
def test_fp16_with_a_scaler_equals_a_plain_loop_also_after_overflow(told, micro):
    scaler, plugin = fp16(init_scale=2.0**24)
    module = Module(micro, scaler=scaler if told else None)
    fit(module, plugins=[plugin])
    other = torch.amp.GradScaler("cpu", growth_interval=5, init_scale=2.0**24)
    weights, records = plain(micro=micro, dtype=torch.float16, scaler=other)
    alike(state(module.net), weights, half=True)
    seen = module.records[micro - 1 :: micro]
    assert [bool(r.skipped) for r in seen] == [bool(r.skipped) for r in records]
    assert 1 <= sum(bool(r.skipped) for r in seen) <= STEPS // 2
    assert scaler.get_scale() == other.get_scale()
    for one, another in zip(seen, records, strict=True):
        if not one.skipped:
            assert one.grad_plus_norm.item() == pytest.approx(another.grad_plus_norm.item(), rel=1e-2)


@pytest.mark.parametrize("precision", ["fp16", "bf16-mixed"])
@pytest.mark.parametrize("own", [False, True])
def test_clipping_in_mixed_precision_clips_the_unscaled_gradient(precision, own):
    class Own(Module):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
            self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="norm")

    scaler, plugin = fp16(init_scale=2.0**10)
    options = {"plugins": [plugin]} if precision == "fp16" else {"precision": precision}
    module = (Own if own else Module)(scaler=scaler if precision == "fp16" else None)
    fit(module, gradient_clip_val=None if own else 0.1, **options)
    # Half precision leaves 2 or 3 digits; what is not clipped, or clipped while it is scaled, ends elsewhere.
    same(state(module.net), by_hand(clip=0.1), atol=2e-2 if precision == "fp16" else 6e-2)
    differ(state(module.net), by_hand(), by=0.2)
    assert module.records[-1].radius.item() == pytest.approx(RHO, rel=1e-4)
    assert not any(r.skipped for r in module.records)
    assert "clip_gradients" not in vars(module)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_without_the_callback_lightnings_closure_runs_twice(precision):
    module = Module()
    fit(module, callbacks=(), precision=precision)
    alike(
        state(module.net),
        plain(dtype=None if precision == "32-true" else torch.bfloat16)[0],
        half=precision != "32-true",
    )
    assert len(module.losses) == 2 * STEPS


def test_without_the_callback_accumulation_and_fp16_are_refused():
    with pytest.raises(RuntimeError, match=r"under Lightning with the callback samirage\.trainers\.lightning\.SAMCal"):
        fit(Module(micro=2), callbacks=())
    with pytest.raises(RuntimeError, match="step\\(\\) has no gradient of a perturbed pass"):
        fit(Module(), callbacks=(), plugins=[fp16()[1]])


@pytest.mark.parametrize("micro", [1, 2])
def test_pass_2_is_neither_logged_nor_returned(micro):
    module = Module(micro)
    trainer = fit(module)
    assert len(module.losses) == 2 * micro * STEPS
    at_x = [x for i in range(0, len(module.losses), 2 * micro) for x in module.losses[i : i + micro]]
    assert module.outputs == [x / micro for x in at_x]  # so does Lightning without SAM
    assert trainer.callback_metrics["loss"].item() == pytest.approx(sum(at_x) / len(at_x), rel=1e-5)
    assert "log" not in vars(module)


def test_other_callbacks_see_the_shifted_gradient():
    seen = []

    class Norms(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            seen.append(torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item())

    module = Module()
    fit(module, callbacks=(SAMCallback, Norms), steps=5)
    assert seen == pytest.approx([r.grad_plus_norm.item() for r in module.records], rel=1e-5)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # on purpose
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_goes_on_from_lightnings_checkpoint(precision, tmp_path):
    class ByStep(Module):
        """Lightning 2.6 takes a batch too many after a checkpoint of an epoch's end, so the step chooses the batch."""

        def training_step(self, batch, batch_idx):
            return super().training_step(batches()[self.trainer.global_step % STEPS], batch_idx)

    def save():
        return pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)

    warm = {"warm_start": WarmStart(steps=STEPS + 6)}  # it ends in the second of two epochs, counted over both
    whole, second = ByStep(**warm), ByStep(**warm)
    options = {"precision": precision, "callbacks": (SAMCallback, save), "enable_checkpointing": True}
    fit(whole, steps=2 * STEPS, **options)
    fit(second, steps=2 * STEPS, resume=tmp_path / "epoch=0.ckpt", **options)
    alike(state(second.net), state(whole.net), half=precision != "32-true")
    assert [r.perturbed for r in second.records] == [False] * 6 + [True] * (STEPS - 6)
    assert second.records[-1].step == 2 * STEPS - 1


def test_a_step_of_one_pass_runs_once():
    module = Module(warm_start=WarmStart(steps=STEPS))
    fit(module)
    assert len(module.losses) == STEPS
    alike(state(module.net), by_hand(rho=0.0))


def test_an_exception_in_pass_2_brings_the_weights_back():
    class Fails(Module):
        def training_step(self, batch, batch_idx):
            if len(self.losses) == 1:
                raise ValueError("on purpose")
            return super().training_step(batch, batch_idx)

    module = Fails()
    with pytest.raises(ValueError, match="on purpose"):
        fit(module)
    for p, home in zip(module.net.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, home)
    assert not {"log", "clip_gradients"} & vars(module).keys()


def test_a_training_step_may_return_a_dictionary_or_nothing():
    class Skips(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 3 else {"loss": loss, "n": len(batch[0])}

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.records.append(self.optimizers().record)

    module = Skips()
    with pytest.warns(UserWarning, match="`training_step` returned `None`"):
        fit(module, steps=6)
    assert [r.perturbed for r in module.records] == [True, True, True, False, True, True]
    plainer = Module()
    fit(plainer, steps=3)
    norms = [r.grad_norm.item() for r in plainer.records]
    assert [r.grad_norm.item() for r in module.records[:3]] == pytest.approx(norms, rel=1e-5)


class Manual(Module):
    automatic_optimization = False

    def loss(self, batch):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.lr_schedulers().step()


exec(blocks("howto-lightning.md")[2], names := {})


class ByClosure(Manual):
    training_step = names["training_step"]


class ByHand(Manual):
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        with optimizer.perturbed():
            self.manual_backward(self.loss(batch))
        optimizer.step()


def test_manual_optimization_takes_a_closure():
    module = ByClosure()
    trainer = fit(module, callbacks=())
    assert trainer.global_step == STEPS
    alike(state(module.net), plain()[0])


def test_manual_optimization_without_a_closure_is_refused():
    with pytest.raises(RuntimeError, match=r"Lightning always gives one; there call step\(closure\) alone"):
        fit(ByHand(), callbacks=())


def test_the_callback_says_what_it_needs():
    class Plain(Module):
        def configure_optimizers(self):
            return base(self.net)

    with pytest.raises(TypeError, match=r"SAMCallback needs one samirage\.SAM from configure_optimizers; got SGD"):
        fit(Plain())
    with pytest.raises(ValueError, match=r"SAMCallback is for automatic optimization.*optimizers\(\)\.step\(closure\)"):
        fit(ByClosure())
