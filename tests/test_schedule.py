"""Schedulers in a Trainer: per epoch and per step, recorded once, resumed with the same bits."""

import fastnn as fn
import numpy as np
import pytest
from checkpoint_helpers import X, Y, bits
from fastnn import nn, optim
from fastnn.optim import lr_scheduler as S
from fastnn.train import CheckpointError

STEPS = 5  # of 70 samples in batches of 16
PER_STEP = {
    "one cycle": lambda o: S.OneCycleLR(o, 0.1, epochs=4, steps_per_epoch=STEPS),
    "warm-up, then cosine": lambda o: S.WarmupLR(o, 7, then=S.CosineAnnealingLR(o, 13)),
}
PER_EPOCH = {
    "steps": lambda o: S.MultiStepLR(o, [1, 3], 0.5),
    "plateau": lambda o: S.ReduceLROnPlateau(o, patience=0, factor=0.5, threshold=0.2),
}
ALL = [(make, "step") for make in PER_STEP.values()] + [(m, "epoch") for m in PER_EPOCH.values()]


def make(scheduler=None, interval="epoch", optimizer=optim.Adam, hooks=(), **options):
    fn.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.02}]
    o = optimizer(groups, lr=0.01)
    for hook in hooks:
        o.register_step_post_hook(hook)
    return fn.Trainer(
        model, nn.CrossEntropyLoss(), o, scheduler=scheduler and scheduler(o),
        scheduler_interval=interval, **options,
    )  # fmt: skip


def by_hand(trainer, scheduler, epochs, seed=5):
    """The loop that torch's users write."""
    for epoch in range(epochs):
        order = fn.random.permutation(len(X), seed, epoch)
        for start in range(0, len(X), 16):
            rows = order[start : start + 16]
            loss = nn.CrossEntropyLoss()(trainer.model(X[rows]), Y[rows])
            trainer.optimizer.zero_grad()
            loss.backward()
            trainer.optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("name", PER_STEP)
def test_steps_follow_the_schedule_as_in_the_loop_by_hand(name, capture):
    hooks = [optim.ProximalL1(0.01)]  # reads the rate too
    ours = make(PER_STEP[name], "step", hooks=hooks, capture=capture)
    hand = make(hooks=[optim.ProximalL1(0.01)])
    scheduler = PER_STEP[name](hand.optimizer)
    fn.manual_seed(7)
    history = ours.fit(X, Y, batch_size=16, epochs=3, seed=5, verbose=0)
    fn.manual_seed(7)
    by_hand(hand, scheduler, 3)
    assert bits(ours)[:2] == bits(hand)[:2]
    assert [g["lr"] for g in ours.optimizer.param_groups] == scheduler.get_last_lr()
    assert [g["betas"] for g in ours.optimizer.param_groups] == [
        g["betas"] for g in hand.optimizer.param_groups
    ]
    assert history.history["lr"] == [scheduler.at(STEPS * i - 1)[0] for i in (1, 2, 3)]


def test_a_schedule_per_step_is_recorded_once_and_replayed_in_whole_epochs(monkeypatch):
    trainer = make(PER_STEP["one cycle"], "step")
    plan = fn._core.Plan
    made, calls = [], []

    class Counting:
        def __init__(self):
            self.plan = plan()
            made.append(self)

        def replay(self, steps):
            calls.append(steps)
            return self.plan.replay(steps)

        def __getattr__(self, name):
            return getattr(self.plan, name)

    monkeypatch.setattr("fastnn.train.epoch._core.Plan", Counting)
    trainer.fit(X, Y, batch_size=16, epochs=4, verbose=0)
    assert len(made) == 2  # a batch of 16, and one of 6
    assert sum(calls) == 4 * STEPS - 2
    assert max(calls) == 4
    assert trainer.optimizer.table is None


@pytest.mark.parametrize("name", PER_EPOCH)
def test_epochs_follow_the_schedule(name):
    trainer = make(PER_EPOCH[name])
    history = trainer.fit(X, Y, batch_size=16, epochs=5, verbose=0, validation_split=0.2).history
    other = make()
    scheduler = PER_EPOCH[name](other.optimizer)
    rates = []
    for loss in history["val_loss"]:
        rates.append(scheduler.get_last_lr()[0])
        scheduler.step(*([loss] if name == "plateau" else []))
    assert history["lr"] == rates
    assert len(set(rates)) > 1


@pytest.mark.parametrize(("scheduler", "interval"), ALL)
@pytest.mark.parametrize("batch", [None, 0, 2, 4])
def test_resuming_gives_the_same_bits(tmp_path, scheduler, interval, batch):
    """After an epoch, and after a batch of one."""

    class Stop(fn.train.Callback):
        def on_train_batch_end(self, index, logs):
            if (self.trainer.epoch, index) == (1, batch):
                raise KeyboardInterrupt

    path = str(tmp_path / "last.safetensors")
    whole = make(scheduler, interval)
    history = whole.fit(X, Y, batch_size=16, epochs=4, verbose=0)
    first = make(scheduler, interval)
    if batch is None:
        first.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    else:
        with pytest.raises(KeyboardInterrupt):
            first.fit(X, Y, batch_size=16, epochs=4, callbacks=[Stop()], verbose=0)
    first.save(path)
    resumed = make(scheduler, interval)
    fn.manual_seed(99)
    resumed.load(path)
    rest = resumed.fit(X, Y, batch_size=16, epochs=4, initial_epoch=None, verbose=0)
    assert bits(resumed) == bits(whole)
    for name in ("loss", "lr"):
        assert rest.history[name] == history.history[name][1 if batch is not None else 2 :]


def test_a_failed_step_is_not_counted():
    trainer = make(PER_STEP["one cycle"], "step")

    class Break(fn.train.Callback):
        def on_train_batch_end(self, index, logs):
            if index == 2:
                nn.init.constant_(trainer.model[3].weight, float("nan"))

    with pytest.raises(ValueError, match="fit: epoch 1, step 4"):
        trainer.fit(X, Y, batch_size=16, epochs=1, callbacks=[Break()], verbose=0)
    assert trainer.schedule.scheduler.last_epoch == trainer.optimizer.step_count == 3
    assert trainer.optimizer.table is None


def test_the_rate_of_a_group_counts_again_afterwards():
    trainer = make(PER_STEP["warm-up, then cosine"], "step", optimizer=optim.SGD)
    trainer.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    before = np.array(trainer.model[0].bias.detach())
    trainer.optimizer.param_groups[0]["lr"] = 0.5
    for p in trainer.model.parameters():
        p.grad = fn.ones(*p.shape)
    trainer.optimizer.step()
    np.testing.assert_allclose(trainer.model[0].bias.detach().numpy(), before - 0.5, rtol=1e-6)


def test_checkpoints_of_other_schedulers_are_refused(tmp_path):
    path = str(tmp_path / "last.safetensors")
    trainer = make(PER_EPOCH["steps"])
    trainer.fit(X, Y, verbose=0)
    trainer.save(path)
    for other, name in ((make(), "none"), (make(PER_EPOCH["plateau"]), "ReduceLROnPlateau")):
        before = bits(other)
        with pytest.raises(CheckpointError) as caught:
            other.load(path)
        assert str(caught.value) == f"{path}: scheduler: expected {name}, got MultiStepLR"
        assert bits(other) == before
    make().save(path)
    with pytest.raises(CheckpointError, match="scheduler: expected MultiStepLR, got none"):
        trainer.load(path)


@pytest.mark.parametrize("state", [
    {}, {"last_epoch": "1", "base_lrs": [1.0, 1.0]}, {"last_epoch": 1, "base_lrs": [-1.0, 1.0]},
    {"last_epoch": 1 << 60, "base_lrs": [1.0, 1.0]},
])  # fmt: skip
def test_hostile_states_are_refused(tmp_path, state):
    path = str(tmp_path / "last.safetensors")

    def scheduler(o):
        return S.ExponentialLR(o, 1.1)

    trainer, other = make(scheduler), make(scheduler)
    trainer.schedule.scheduler.state_dict = lambda: state or {"x": 1}
    trainer.fit(X, Y, verbose=0)
    trainer.save(path)
    before, generators = bits(other), fn.random.get_state()
    with pytest.raises(CheckpointError, match="expected"):
        other.load(path)
    assert (bits(other), fn.random.get_state()) == (before, generators)
    assert other.schedule.scheduler.last_epoch == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="expected") as caught:
        make(interval="batch")
    assert str(caught.value) == (
        "Trainer: expected scheduler_interval 'epoch' or 'step', got 'batch'"
    )
    with pytest.raises(ValueError, match="expected") as caught:
        make(PER_EPOCH["plateau"], "step")
    assert str(caught.value) == (
        "Trainer: expected scheduler_interval 'epoch' with ReduceLROnPlateau, got 'step'"
    )
    foreign = S.StepLR(make().optimizer, 1)
    with pytest.raises(ValueError, match="expected") as caught:
        make(lambda o: foreign)
    assert str(caught.value) == (
        "Trainer: expected a scheduler of the optimizer given, got another one's"
    )
