"""Callbacks that keep, average, write and end: what each leaves, also after an interruption."""

import os
import re
import sys
import types

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim
from fastnn.train import (
    SWA,
    ModelCheckpoint,
    SnapshotEnsemble,
    StopAtZeroErrors,
    TensorBoard,
    TerminateOnNaN,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype(np.float32), RNG.integers(0, 3, 60)


def make(*layers, lr=0.1, **options):
    fn.manual_seed(0)
    layers = layers or (nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    model = nn.Sequential(*layers)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def weights(model):
    return np.concatenate([v.numpy().ravel() for v in model.state_dict().values()])


class Record(fn.train.Callback):
    """The weights and logs of each epoch, and the hooks in their order."""

    def __init__(self):
        self.weights, self.logs, self.calls = [], [], []

    def on_epoch_end(self, epoch, logs):
        self.weights.append(weights(self.trainer.model))
        self.logs.append(logs)


class Hooks(fn.train.Callback):
    def __init__(self):
        self.calls = []

    def on_train_batch_begin(self, batch):
        self.calls.append(f"begin {batch}")

    def on_train_batch_end(self, batch, logs):
        self.calls.append(f"end {batch}")

    def on_test_begin(self):
        self.calls.append("test")

    def on_test_end(self, logs):
        self.calls.append(sorted(logs))

    def on_epoch_end(self, epoch, logs):
        self.calls.append("epoch")


def interrupted(make_trainer, make_callback, tmp_path, epochs=6):
    """(the callback of a whole training, that of one that stopped in its middle and went on)."""

    class Stop(fn.train.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

    path = str(tmp_path / "last.safetensors")
    options = {"epochs": epochs, "validation_split": 0.3, "verbose": 0, "seed": 0}
    whole, parts = make_callback(), make_callback()
    make_trainer().fit(X, Y, callbacks=[whole], **options)
    first = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, callbacks=[parts, Stop()], **options)
    first.save(path)
    rest, again = make_trainer(), make_callback()
    rest.load(path)
    rest.fit(X, Y, callbacks=[again], **options, initial_epoch=None)
    return whole, again


def test_hooks_come_in_keras_order():
    hooks = Hooks()
    make().fit(X, Y, batch_size=20, validation_split=1 / 3, callbacks=[hooks], verbose=0)
    assert hooks.calls == [
        "begin 0", "end 0", "begin 1", "end 1", "test", ["accuracy", "loss"], "epoch",
    ]  # fmt: skip


# ---- ModelCheckpoint --------------------


@pytest.mark.parametrize(("monitor", "better"), [("val_loss", min), ("val_accuracy", max)])
def test_the_top_k_are_kept_and_the_others_removed(tmp_path, monitor, better):
    record = Record()
    path = str(tmp_path / ("{epoch:02d}-{" + monitor + ":.9f}.safetensors"))
    checkpoint = ModelCheckpoint(path, monitor, save_top_k=3)
    trainer = make(lr=0.5)
    trainer.fit(
        X, Y, epochs=12, validation_split=0.4, callbacks=[record, checkpoint], verbose=0, seed=1
    )
    values = [logs[monitor] for logs in record.logs]
    # Of equal values the earlier is the better one.
    best = sorted(range(12), key=lambda i: (values[i] if better is min else -values[i], i))[:3]
    names = [f"{i + 1:02d}-{values[i]:.9f}.safetensors" for i in best]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert [os.path.basename(p) for p in checkpoint.best_k_models] == names
    assert checkpoint.best_model_path == str(tmp_path / names[0])
    for i, name in zip(best, names, strict=True):
        model = fn.train.load_model(str(tmp_path / name))
        np.testing.assert_array_equal(weights(model), record.weights[i])


def test_the_top_k_survive_an_interruption(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    path = str(folder / "{epoch}.safetensors")
    whole, again = interrupted(make, lambda: ModelCheckpoint(path, save_top_k=2), tmp_path)
    assert whole.best_k_models == again.best_k_models
    assert sorted(os.listdir(folder)) == sorted(os.path.basename(p) for p in again.best_k_models)


def test_every_epoch_without_save_best_only(tmp_path):
    checkpoint = ModelCheckpoint(str(tmp_path / "{epoch}.safetensors"), save_best_only=False)
    make().fit(X, Y, epochs=3, callbacks=[checkpoint], verbose=0)
    assert sorted(os.listdir(tmp_path)) == [f"{i}.safetensors" for i in (1, 2, 3)]


def test_model_checkpoint_messages():
    with pytest.raises(ValueError, match=r"^ModelCheckpoint: expected save_top_k >= 1, got 0$"):
        ModelCheckpoint("x", save_top_k=0)
    with pytest.raises(ValueError, match=r".") as error:
        ModelCheckpoint("x", save_top_k=2)
    assert str(error.value) == (
        "ModelCheckpoint: expected {epoch} in filepath with save_top_k 2, got 'x'"
    )
    with pytest.raises(ValueError, match=r".") as error:
        make().fit(X, Y, callbacks=[ModelCheckpoint("{f1}", "loss")], verbose=0)
    assert str(error.value) == (
        "ModelCheckpoint: expected filepath to be a format of epoch, loss, accuracy, lr, seconds, "
        "samples_per_s, got '{f1}' ('f1')"
    )


# ---- averages --------------------


def test_swa_is_the_mean_of_the_last_epochs():
    record, swa = Record(), SWA(0.5)
    trainer = make()
    trainer.fit(X, Y, epochs=8, callbacks=[record, swa], verbose=0)
    assert swa.epochs == 4
    expected = np.mean(np.array(record.weights[4:], np.float64), axis=0)
    np.testing.assert_allclose(weights(trainer.model), expected, rtol=1e-5, atol=1e-7)


def test_swa_computes_batch_norm_anew():
    trainer = make(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    trainer.fit(X, Y, epochs=4, callbacks=[SWA(2)], verbose=0)
    hidden = np.asarray(trainer.model[0](X).detach(), np.float64)
    norm = trainer.model[1]
    np.testing.assert_allclose(norm.running_mean.numpy(), hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), hidden.var(0, ddof=1), rtol=1e-5)
    assert norm.momentum == 0.1
    assert trainer.model.training


def test_swa_survives_an_interruption(tmp_path):
    whole, again = interrupted(make, lambda: SWA(2), tmp_path)
    assert again.epochs == whole.epochs == 4
    np.testing.assert_array_equal(weights(whole.trainer.model), weights(again.trainer.model))


def test_swa_takes_no_text():
    text = "SWA: expected swa_epoch_start to be a number, got '0'"
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        SWA("0")


@pytest.mark.parametrize("start", [-1, 1.5])
def test_swa_messages(start):
    with pytest.raises(ValueError, match=r".") as error:
        SWA(start)
    assert str(error.value) == (
        f"SWA: expected swa_epoch_start to be an epoch or a share from 0.0 to 1.0, got {start!r}"
    )


def test_snapshots_are_the_ends_of_the_cycles(tmp_path):
    record, snapshots = Record(), SnapshotEnsemble(2, start_from_epoch=2)
    make().fit(X, Y, epochs=7, callbacks=[record, snapshots], verbose=0)
    ensemble = snapshots.ensemble()
    for member, epoch in zip(ensemble, (3, 5), strict=True):
        np.testing.assert_array_equal(weights(member), record.weights[epoch])
    assert len(snapshots.ensemble(last=1)) == 1
    whole, again = interrupted(make, lambda: SnapshotEnsemble(2), tmp_path)
    for a, b in zip(whole.ensemble(), again.ensemble(), strict=True):
        np.testing.assert_array_equal(weights(a), weights(b))


# ---- stopping --------------------


def test_stopping_at_zero_errors():
    x, y = np.eye(4, dtype=np.float32), np.arange(4)
    stop = StopAtZeroErrors(patience=2)
    trainer = make(nn.Linear(4, 4), lr=1.0)
    history = trainer.fit(x, y, epochs=100, callbacks=[stop], verbose=0)
    assert history.history["accuracy"][-2:] == [1.0, 1.0]
    assert 1.0 not in history.history["accuracy"][:-2]
    assert stop.stopped_epoch == history.epoch[-1]
    with pytest.raises(ValueError, match=r"^StopAtZeroErrors: expected patience >= 1, got 0$"):
        StopAtZeroErrors(patience=0)


def overflowing(row, value=3e38):
    x = X.copy()
    x[row] = value
    return x


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(("row", "step"), [(3, 1), (45, 3)])
def test_terminate_on_nan_names_layer_tensor_step_and_index(capture, row, step):
    trainer = make(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), capture=capture)
    nn.init.constant_(trainer.model[0].weight, 2.0)
    terminate = TerminateOnNaN()
    with pytest.warns(RuntimeWarning) as warned:
        history = trainer.fit(
            overflowing(row), Y, batch_size=20, epochs=5, shuffle=False, callbacks=[terminate],
            verbose=0,
        )  # fmt: skip
    assert history.epoch == []
    found = terminate.found
    assert (found.epoch, found.step, found.layer, found.tensor) == (1, step, "0", "output")
    assert (found.index, found.value) == ((row % 20, 0), np.inf)
    assert [str(w.message) for w in warned] == [
        f"TerminateOnNaN: training ended: epoch 1, step {step}: output of layer '0' (Linear) is "
        f"inf at [{row % 20}, 0]"
    ]
    assert trainer.optimizer.step_count == step - 1


@pytest.mark.parametrize("capture", [True, False])
def test_terminate_on_nan_names_the_gradient(capture):
    def loss(outputs, y):  # 1e28 at most, but on the way back 1e20 * 1e38
        return (outputs * 1e-30 * 1e38 * 1e20).mean()

    trainer = make(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3), capture=capture)
    trainer.loss = loss
    trainer.metrics = ()
    terminate = TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match="gradient of weight of layer '2'"):
        trainer.fit(X, Y, callbacks=[terminate], verbose=0)
    assert (terminate.found.layer, terminate.found.tensor) == ("2", "gradient of weight")
    assert terminate.found.index == (0, 0)


def test_terminate_on_nan_draws_what_the_step_drew():
    """Dropout decides which step overflows: the step made once more has to find the same."""
    x = X.copy()
    x[:, 0] = 1e38
    found = []
    for capture in (True, False):
        trainer = make(nn.Dropout(0.9), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), lr=1e-4)
        trainer.switch.on = capture
        nn.init.constant_(trainer.model[1].weight, 0.4)
        terminate = TerminateOnNaN()
        with pytest.warns(RuntimeWarning, match=r"output of layer '0' \(Dropout\)"):
            trainer.fit(
                x, Y, batch_size=1, epochs=5, shuffle=False, callbacks=[terminate], verbose=0
            )
        found.append(terminate.found)
    assert found[0] == found[1]
    assert found[0].step > 2


# ---- the end, whatever happened --------------------


class Raises(fn.train.Callback):
    def __init__(self, error, hook="on_epoch_end"):
        self.error = error
        setattr(self, hook, self._raise)

    def _raise(self, *args):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("own"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_nothing_hangs_on_the_optimizer_after_an_error(monkeypatch, hook, error):
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(Writer, "written", [])
    trainer, ema, monitor = make(), fn.train.EMA(0.5), fn.train.Monitor()
    callbacks = [TensorBoard(), ema, monitor, Raises(error, hook)]
    with pytest.raises(type(error)):
        trainer.fit(X, Y, batch_size=20, epochs=2, callbacks=callbacks, verbose=0)
    assert trainer.optimizer._hooks == []
    assert Writer.written[-2:] == [("train", "closed"), ("validation", "closed")]
    trainer.fit(X, Y, batch_size=20, epochs=2, callbacks=[ema, monitor], verbose=0)
    assert (ema.steps, len(monitor.loss)) == (6, 6)
    trainer.fit(X, Y, batch_size=20, epochs=2, verbose=0)
    assert (ema.steps, trainer.optimizer._hooks) == (6, [])


def test_a_failed_step_is_torn_down_too():
    trainer, ema = make(lr=1e30), fn.train.EMA(0.5)
    with pytest.raises(ValueError, match="fit: epoch"):
        trainer.fit(X * 1e30, Y, callbacks=[ema], verbose=0)
    assert trainer.optimizer._hooks == []


def test_every_callback_is_torn_down_though_one_raises():
    calls = []

    class Tells(fn.train.Callback):
        def on_train_end(self):
            calls.append("end")

        def teardown(self):
            calls.append("teardown")

    callbacks = [Tells(), Raises(RuntimeError("own"), "teardown"), Tells()]
    with pytest.raises(RuntimeError, match="own"):
        make().fit(X, Y, callbacks=callbacks, verbose=0)
    assert calls == ["end", "end", "teardown", "teardown"]


# ---- TensorBoard --------------------


class Writer:
    written: list = []  # noqa: RUF012

    def __init__(self, folder):
        self.folder = os.path.basename(folder)

    def add_scalar(self, name, value, step):
        self.written.append((self.folder, name, value, step))

    def add_histogram(self, name, value, step):
        self.written.append((self.folder, name, value.shape, step))

    def flush(self):
        pass

    def close(self):
        self.written.append((self.folder, "closed"))


def test_tensorboard_gets_scalars_and_histograms(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(Writer, "written", [])
    board = TensorBoard("logs", histogram_freq=2, update_freq="batch")
    history = (
        make()
        .fit(X, Y, batch_size=20, epochs=3, validation_split=1 / 3, callbacks=[board], verbose=0)
        .history
    )
    losses = [v for f, n, v, _ in Writer.written[:-2] if (f, n) == ("train", "epoch_loss")]
    assert losses == history["loss"]
    losses = [v for f, n, v, _ in Writer.written[:-2] if (f, n) == ("validation", "epoch_loss")]
    assert losses == history["val_loss"]
    steps = [s for _, n, _, s in Writer.written[:-2] if n == "batch_loss"]
    assert steps == [1, 2, 3, 4, 5, 6]
    shapes = [(v, s) for _, n, v, s in Writer.written[:-2] if n == "0/weight"]
    assert shapes == [((8, 4), 0), ((8, 4), 2)]
    assert Writer.written[-2:] == [("train", "closed"), ("validation", "closed")]


def test_tensorboard_by_epoch_costs_no_call_per_batch():
    assert not fn.train.callbacks.overrides([TensorBoard()], "on_train_batch_end")


def test_tensorboard_names_the_extra_and_checks_its_arguments(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        make().fit(X, Y, callbacks=[TensorBoard()], verbose=0)
    assert str(missing.value) == (
        "TensorBoard: expected tensorboardX to be installed; install it with: pip install "
        "'fastnn[tensorboard]'"
    )
    with pytest.raises(ValueError, match=r"^TensorBoard: expected histogram_freq >= 0, got -1$"):
        TensorBoard(histogram_freq=-1)
    with pytest.raises(ValueError, match=r".") as error:
        TensorBoard(update_freq="step")
    assert str(error.value) == "TensorBoard: expected update_freq 'epoch' or 'batch', got 'step'"
