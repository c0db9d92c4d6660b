"""SAM under the Trainer of Transformers equals a plain loop: precision, accumulation, clipping, resume."""

import pytest
import torch
from torch import nn

from samirage import SAM, WarmStart
from tests.trainers.digits import (
    LR,
    MOMENTUM,
    RHO,
    SIZE,
    STEPS,
    alike,
    base,
    blocks,
    by_hand,
    decay,
    differ,
    images,
    network,
    plain,
    same,
    state,
)

transformers = pytest.importorskip("transformers")
import accelerate  # noqa: E402

from samirage.trainers.transformers import SAMTrainer  # noqa: E402


class Model(nn.Module):
    """As a model of Transformers: it returns its loss."""

    def __init__(self):
        super().__init__()
        self.net, self.losses = network(), []

    def forward(self, x, labels):
        logits = self.net(x)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        self.losses.append(loss.item())
        return {"loss": loss, "logits": logits}


class Watch(transformers.TrainerCallback):
    def __init__(self):
        self.records, self.logs = [], []

    def on_step_begin(self, args, state, control, **kwargs):
        torch.manual_seed(state.global_step)

    def on_step_end(self, args, state, control, optimizer, **kwargs):
        self.records.append(optimizer.optimizer.record)

    def on_log(self, args, state, control, logs, **kwargs):
        self.logs.append(logs)


class Decays:
    def create_scheduler(self, num_training_steps, optimizer=None):
        self.lr_scheduler = decay(self.optimizer)
        return self.lr_scheduler


class Trainer(Decays, SAMTrainer):
    pass


def make(folder, *, micro=1, steps=STEPS, scaler=None, cls=Trainer, **options):
    accelerate.state.AcceleratorState._reset_state(True)
    x, y = images()
    given = {
        "model": Model(),
        "sam": {"rho": RHO},
        "train_dataset": [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)],
    }
    arguments = {"max_grad_norm": 0.0, "save_strategy": "no"} | options.pop("arguments", {})
    options = given | options
    if "optimizers" not in options:
        options["optimizer_cls_and_kwargs"] = (torch.optim.SGD, {"lr": LR, "momentum": MOMENTUM})
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=SIZE // micro,
        max_steps=steps,
        train_sampling_strategy="sequential",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        logging_steps=1,
        **{"gradient_accumulation_steps": micro} | arguments,
    )
    trainer = cls(args=arguments, callbacks=[Watch()], **options)
    trainer.remove_callback(transformers.PrinterCallback)
    if scaler is not None:  # on a GPU `fp16=True` does this; on a CPU Accelerate leaves it out
        trainer.accelerator.native_amp, trainer.accelerator.scaler = True, scaler
    return trainer


def watched(trainer):
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Watch))


def train(folder, **options):
    trainer = make(folder, **options)
    trainer.train()
    return trainer, watched(trainer).records


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("micro", [1, 2])
def test_transformers_equals_sam_by_hand(micro, clip, tmp_path):
    trainer, _ = train(tmp_path, micro=micro, arguments={"max_grad_norm": clip or 0.0})
    alike(state(trainer.model.net), by_hand(micro=micro, clip=clip))
    differ(state(trainer.model.net), by_hand(micro=micro, clip=clip, rho=0.0))
    if clip is not None:
        differ(state(trainer.model.net), by_hand(micro=micro))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("bf16", [False, True])
def test_transformers_equals_a_plain_loop(bf16, micro, tmp_path):
    trainer, seen = train(tmp_path, micro=micro, arguments={"bf16": bf16})
    weights, records = plain(micro=micro, dtype=torch.bfloat16 if bf16 else None)
    alike(state(trainer.model.net), weights, half=bf16)
    norms = [
        r.grad_plus_norm.item() for r in records
    ]  # summed in another order where a tensor lies elsewhere in memory
    assert [r.grad_plus_norm.item() for r in seen] == pytest.approx(norms, rel=1e-6)
    assert all(r.perturbed for r in seen)
    # The displacement is measured in float32 weights of order 1, so to 1e-4 of rho.
    assert [r.radius.item() for r in seen] == pytest.approx([RHO] * STEPS, rel=1e-4)


@pytest.mark.parametrize("micro", [1, 2])
def test_fp16_with_a_scaler_equals_a_plain_loop_also_after_overflow(micro, tmp_path):
    ours, other = (torch.amp.GradScaler("cpu", growth_interval=5, init_scale=2.0**24) for _ in range(2))
    trainer, seen = train(tmp_path, micro=micro, scaler=ours, arguments={"fp16": True})
    weights, records = plain(micro=micro, dtype=torch.float16, scaler=other)
    alike(state(trainer.model.net), weights, half=True)
    assert [bool(r.skipped) for r in seen] == [bool(r.skipped) for r in records]
    assert 1 <= sum(bool(r.skipped) for r in seen) <= STEPS // 2
    assert ours.get_scale() == other.get_scale()


def test_clipping_in_fp16_clips_the_unscaled_gradient(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer, seen = train(tmp_path, scaler=scaler, arguments={"fp16": True, "max_grad_norm": 0.1})
    same(state(trainer.model.net), by_hand(clip=0.1), atol=2e-2)  # half precision leaves 3 digits
    differ(state(trainer.model.net), by_hand(), by=0.2)
    assert seen[-1].radius.item() == pytest.approx(RHO, rel=1e-4)


@pytest.mark.parametrize("micro", [1, 2])
def test_the_log_has_the_loss_at_x_and_the_norm_of_the_shifted_gradient(micro, tmp_path):
    trainer, seen = train(tmp_path, micro=micro, arguments={"max_grad_norm": 0.1})
    losses, logs = trainer.model.losses, watched(trainer).logs[:STEPS]
    assert len(losses) == 2 * micro * STEPS
    at_x = [sum(losses[i : i + micro]) / micro for i in range(0, len(losses), 2 * micro)]
    assert [log["loss"] for log in logs] == pytest.approx(at_x, rel=1e-5, abs=1e-4)  # it rounds to four digits
    assert [log["grad_norm"] for log in logs] == pytest.approx([r.grad_plus_norm.item() for r in seen], rel=1e-4)


def test_a_last_step_of_fewer_micro_batches_is_made_whole(tmp_path):
    # 384 examples are 48 micro-batches of 8: nine steps of five, and one of the three that are left.
    trainer, seen = train(tmp_path, micro=2, steps=10, arguments={"gradient_accumulation_steps": 5})
    assert len(trainer.model.losses) == 2 * 48
    assert len(seen) == 10


def test_an_optimizer_that_is_a_sam_already_is_taken_as_it_is(tmp_path):
    given = make(tmp_path)
    model = Model()
    names = {"SAM": SAM, "torch": torch, "model": model, "SAMTrainer": Trainer}
    exec(blocks("howto-transformers.md")[3], names | {"arguments": given.args, "data": given.train_dataset}, names)
    trainer, sam = names["trainer"], names["sam"]
    trainer.add_callback(Watch)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    assert trainer.sam is sam
    alike(state(model.net), by_hand())
    with pytest.raises(ValueError, match="optimizers=… is a SAM already: leave one of them out"):
        make(tmp_path, model=model, optimizers=(sam, None))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_goes_on_from_transformers_checkpoint(bf16, tmp_path):
    options = {
        "sam": {"rho": RHO, "warm_start": WarmStart(steps=14)},
        "arguments": {"bf16": bf16, "save_strategy": "steps", "save_steps": 10},
    }
    whole, _ = train(tmp_path, **options)
    second = make(tmp_path, **options)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    alike(state(second.model.net), state(whole.model.net), half=bf16)
    assert [r.perturbed for r in watched(second).records] == [False] * 4 + [True] * (STEPS - 14)
    assert second.sam.record.step == STEPS - 1


def test_a_second_training_goes_on_with_the_same_optimizer(tmp_path):
    trainer, _ = train(tmp_path, steps=3)
    sam = trainer.sam
    trainer.train()
    assert trainer.sam is sam
    assert sam.record.step == 5


def test_a_step_of_one_pass_runs_once(tmp_path):
    trainer, _ = train(tmp_path, sam={"rho": RHO, "warm_start": WarmStart(steps=STEPS)})
    assert len(trainer.model.losses) == STEPS
    alike(state(trainer.model.net), by_hand(rho=0.0))


def test_an_exception_in_pass_2_brings_the_weights_back(tmp_path):
    class Fails(Model):
        def forward(self, x, labels):
            if len(self.losses) == 1:
                raise ValueError("on purpose")
            return super().forward(x, labels)

    trainer = make(tmp_path, model=Fails())
    with pytest.raises(ValueError, match="on purpose"):
        trainer.train()
    for p, home in zip(trainer.model.net.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, home)


def test_the_mixin_serves_other_trainers(tmp_path):
    exec(blocks("howto-transformers.md")[2], names := {})

    class Mine(Decays, names["SAMSeq2SeqTrainer"]):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers, "TrainingArguments", transformers.Seq2SeqTrainingArguments)
        model = Model()
        options = {"model": model, "optimizers": (base(model), None)}  # wrapped in SAM, as the Trainer's own
        trainer, _ = train(tmp_path, cls=Mine, **options)
    alike(state(trainer.model.net), by_hand())


def test_the_optimizer_is_there_once_training_has_begun(tmp_path):
    with pytest.raises(TypeError, match=r"the Trainer's optimizer is no samirage\.SAM but NoneType: train\(\) makes"):
        _ = make(tmp_path).sam
