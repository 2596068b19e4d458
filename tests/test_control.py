"""Callbacks that steer: early stopping, learning rates, averages; and that they are resumed."""

import fastnn as fn
import numpy as np
import pytest
from checkpoint_helpers import X, Y, bits, make
from fastnn import nn, optim
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.train import EMA, EarlyStopping, LearningRateScheduler, ReduceLROnPlateau
from fastnn.train.callbacks import Best


class Values(fn.train.Callback):
    """Puts values of our own into the logs; comes first."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, epoch, logs):
        logs["val_loss"] = self.values[epoch]


class StopAt(fn.train.Callback):
    """Interrupts at a batch of the second epoch, or saves after it."""

    def __init__(self, path, batch):
        self.path, self.batch = path, batch

    def on_train_batch_end(self, index, logs):
        if (self.trainer.epoch, index) == (1, self.batch):
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs):
        if self.batch is None and epoch == 1:
            self.trainer.save(self.path)
            raise KeyboardInterrupt


def arrays(model):
    return [np.array(v) for v in model.state_dict().values()]


def fit(trainer, *callbacks, epochs=10, **options):
    return trainer.fit(
        X, Y, batch_size=16, epochs=epochs, callbacks=callbacks, verbose=0, **options
    )


# ---- early stopping --------------------


@pytest.mark.parametrize(("options", "values", "epochs", "best"), [
    ({}, [3, 2, 1, 1, 0], 4, 2),
    ({"patience": 1}, [3, 2, 1, 1, 0], 4, 2),
    ({"patience": 2}, [3, 4, 2, 3, 3, 0], 5, 2),
    ({"patience": 2, "min_delta": 0.5}, [3, 2.9, 2.8, 0], 3, 0),
    ({"patience": 2, "mode": "max"}, [3, 4, 2, 3, 9], 4, 1),
    ({"patience": 2, "start_from_epoch": 2}, [0, 0, 3, 2, 4, 4, 4], 6, 3),
    ({"patience": 2}, [3, float("nan"), float("nan"), 0], 3, 0),
])  # fmt: skip
def test_patience(options, values, epochs, best):
    stop = EarlyStopping(**options)
    history = fit(make(), Values(values), stop)
    assert len(history.epoch) == epochs
    assert (stop.best_epoch, stop.stopped_epoch) == (best, epochs - 1)


def test_the_best_weights_come_back():
    kept = {}

    class Keep(fn.train.Callback):
        def on_epoch_end(self, epoch, logs):
            kept[epoch] = arrays(self.trainer.model)

    values = [3, 1, 2, 2, 2]
    trainer, other = make(), make()
    fit(trainer, Keep(), Values(values), EarlyStopping(patience=3, restore_best_weights=True))
    for got, expected in zip(arrays(trainer.model), kept[1], strict=True):
        assert_bitwise_equal(got, expected)
    fit(other, Keep(), Values(values), EarlyStopping(patience=3))
    for got, expected in zip(arrays(other.model), kept[4], strict=True):
        assert_bitwise_equal(got, expected)


def test_a_new_training_starts_with_new_patience_and_one_that_goes_on_does_not():
    stop = EarlyStopping(patience=2)
    trainer = make()
    fit(trainer, Values([1, 2, 3]), stop)
    assert len(fit(trainer, Values([9] * 9), stop, initial_epoch=None).epoch) == 0
    assert len(fit(trainer, Values([9, 8, 7]), stop, epochs=3).epoch) == 3
    assert (stop.best.value, stop.stopped_epoch) == (7, None)


@pytest.mark.parametrize(("monitor", "mode"), [
    ("val_loss", "min"), ("val_accuracy", "max"), ("val_f1", "max"), ("val_roc_auc", "max"),
    ("val_mse", "min"), ("val_r2", "max"),
])  # fmt: skip
def test_what_is_better(monitor, mode):
    assert Best(monitor).mode == mode


# ---- learning rates --------------------


def test_plateau_counts_as_keras_does():
    plateau = ReduceLROnPlateau(patience=2, factor=0.5, cooldown=2, min_lr=0.002)
    history = fit(make(), Values([1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), plateau)
    assert history.history["lr"] == [0.01] * 3 + [0.005] * 3 + [0.0025] * 3 + [0.002]


def test_learning_rate_scheduler():
    trainer = make()
    history = fit(trainer, LearningRateScheduler(lambda e, lr: lr / 2 if e else lr), epochs=3)
    assert history.history["lr"] == [0.01, 0.005, 0.0025]
    with pytest.raises(ValueError, match="expected") as caught:
        fit(trainer, LearningRateScheduler(lambda e, lr: -lr))
    assert str(caught.value) == "LearningRateScheduler: expected a finite lr >= 0, got -0.0025"


# ---- averages --------------------


@pytest.mark.parametrize("capture", [True, False])
def test_ema_is_the_weighted_mean_of_the_weights(capture):
    trainer = make()
    trainer.switch.on = capture
    seen = []

    class Watch(fn.train.Callback):
        def on_train_batch_end(self, index, logs):
            seen.append([a.astype(np.float64) for a in arrays(self.trainer.model)])

    ema = EMA(0.8)
    fit(trainer, ema, Watch(), epochs=3)
    weights = 0.8 ** np.arange(len(seen))[::-1]
    before = arrays(trainer.model)
    assert ema.steps == len(seen) == 15
    with ema.applied(), ema.applied():
        for i, got in enumerate(arrays(trainer.model)):
            mean = np.tensordot(weights / weights.sum(), [s[i] for s in seen], 1)
            np.testing.assert_allclose(got, mean, rtol=0, atol=1e-6)
    for got, expected in zip(arrays(trainer.model), before, strict=True):
        assert_bitwise_equal(got, expected)


def test_ema_does_not_change_the_training():
    plain = make()
    fit(plain)
    expected, averaged = bits(plain), make()
    history = fit(averaged, EMA(0.9), validation_data=(X, Y)).history
    assert bits(averaged) == expected
    assert len(set(history["val_loss"])) == 10


def test_evaluation_and_what_is_kept_are_the_averages(tmp_path):
    path = str(tmp_path / "best.safetensors")
    trainer, ema = make(), EMA(0.95)
    checkpoint = fn.train.ModelCheckpoint(path, save_best_only=False)
    history = fit(trainer, ema, checkpoint, validation_data=(X, Y)).history
    with ema.applied():
        outputs = trainer.model.predict(X)
    assert_bitwise_equal(trainer.predict(X), outputs)
    assert_bitwise_equal(fn.train.load_model(path).predict(X), outputs)
    assert (trainer.model.predict(X) != outputs).any()
    assert trainer.evaluate(X, Y)["loss"] == history["val_loss"][-1]
    fit(trainer, epochs=1)
    assert_bitwise_equal(trainer.predict(X), trainer.model.predict(X))


def test_best_weights_are_averages_too():
    trainer, stop = make(), EarlyStopping(patience=3, restore_best_weights=True)
    history = fit(trainer, EMA(0.95), stop, validation_data=(X[:20], Y[:20])).history
    loss = trainer.evaluate(X[:20], Y[:20])["loss"]
    assert loss == min(history["val_loss"])


def test_ema_in_bfloat16_does_not_stall():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            return self.norm(x.to("bfloat16")).to("float32")

    model = Model().to("bfloat16")
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    ema = EMA(0.999)
    fit(trainer, ema, epochs=3)
    assert {w.dtype for w in ema.weights.values()} == {"float32"}
    trained = np.array(model.norm.weight.detach())
    with ema.applied():
        average = np.array(model.norm.weight.detach())
    np.testing.assert_allclose(average, trained, atol=0.2)
    assert (average != trained).any()
    assert (np.array(model.norm.weight.detach()) == trained).all()


def test_ema_follows_another_optimizer():
    class Switch(fn.train.Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 1:
                self.trainer.optimizer = optim.switch(self.trainer.optimizer, optim.SGD, lr=0.1)

    ema = EMA(0.9)
    fit(make(), Switch(), ema, epochs=2)
    assert ema.steps == 10


# ---- resuming --------------------


def companions(path, batch):
    return (
        EMA(0.9),
        EarlyStopping("loss", patience=3, restore_best_weights=True),
        ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=0.05),
        LearningRateScheduler(lambda epoch, lr: 0.95 * lr),
        StopAt(path, batch),
    )


@pytest.mark.parametrize("batch", [None, 0, 2, 4])
def test_resumed_callbacks_give_the_same_bits(tmp_path, batch):
    path = str(tmp_path / "last.safetensors")
    whole, parts = make(), companions(path, -1)
    history = fit(whole, *parts, validation_data=(X, Y)).history
    first = make()
    with pytest.raises(KeyboardInterrupt):
        fit(first, *companions(path, batch), validation_data=(X, Y))
    if batch is not None:
        first.save(path)
    resumed, again = make(), companions(path, -1)
    fn.manual_seed(99)
    resumed.load(path)
    resumed.save(path)  # what was loaded is not lost before the next fit
    resumed.load(path)
    rest = fit(resumed, *again, validation_data=(X, Y), initial_epoch=None).history
    assert bits(resumed) == bits(whole)
    done = 2 if batch is None else 1
    for name in ("loss", "val_loss", "lr"):
        assert rest[name] == history[name][done:]
    for ours, theirs in zip(again, parts, strict=True):
        state, expected = ours.state_dict(), theirs.state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            if isinstance(value, fn.Tensor):
                assert_bitwise_equal(np.array(value), np.array(expected[name]))
            else:
                assert value == expected[name]


def test_states_of_other_callbacks_are_left_alone(tmp_path):
    path = str(tmp_path / "last.safetensors")
    trainer = make()
    fit(trainer, EarlyStopping("loss"), EMA(), epochs=2)
    trainer.save(path)
    trainer.load(path)
    ema = EMA()
    fit(trainer, ema, epochs=3, initial_epoch=None)
    assert ema.steps == 5


# ---- errors --------------------


def foreign(callback, state):
    callback.set_trainer(make())
    callback.load_state_dict(state)


ERRORS = [
    (lambda: EarlyStopping(patience=-1), "EarlyStopping: expected patience >= 0, got -1"),
    (lambda: EarlyStopping(min_delta=-1), "callback: expected min_delta >= 0, got -1"),
    (lambda: EarlyStopping(mode="up"),
     "callback: expected mode to be one of 'auto', 'min', 'max', got 'up'"),
    (lambda: fit(make(), EarlyStopping("val_x"), validation_data=(X, Y)),
     "EarlyStopping: expected monitor to be one of loss, accuracy, lr, seconds, samples_per_s, "
     "val_loss, val_accuracy, got 'val_x'"),
    (lambda: ReduceLROnPlateau(factor=1.0),
     "ReduceLROnPlateau: expected 0 <= factor < 1, got 1.0"),
    (lambda: ReduceLROnPlateau(patience=-1),
     "ReduceLROnPlateau: expected patience >= 0, got -1"),
    (lambda: ReduceLROnPlateau(cooldown=-1),
     "ReduceLROnPlateau: expected cooldown >= 0, got -1"),
    (lambda: ReduceLROnPlateau(min_lr=-1.0),
     "ReduceLROnPlateau: expected min_lr >= 0, got -1.0"),
    (lambda: EMA(1.0), "EMA: expected 0 <= decay < 1, got 1.0"),
    (lambda: foreign(EMA(), {"steps": -1}), "EMA: expected steps >= 0, got -1"),
    (lambda: foreign(EMA(), {"steps": 3, "weights.0.weight": fn.zeros(2)}),
     "EMA: expected averages of this model's weights, got others"),
    (lambda: foreign(EarlyStopping(), {"wait": -1}), "EarlyStopping: expected wait >= 0, got -1"),
    (lambda: foreign(EarlyStopping(), {"wait": 0, "weights.0.weight": fn.zeros(2)}),
     "EarlyStopping: expected weights of this model, got others"),
    (lambda: foreign(EarlyStopping(), {"wait": 0, "best": "x"}),
     "callback: expected a float best, got x"),
    (lambda: foreign(LearningRateScheduler(max), {}),
     "LearningRateScheduler: expected a whole number epoch, got None"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message
