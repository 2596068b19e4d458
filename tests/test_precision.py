"""The Trainer's precision: fits in mixed precision, and how they go on."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.train import CheckpointError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 6)).astype(np.float32)
Y = (X[:, 0] > 0) * 1 + (X[:, 1] > 0)


def make(precision="bf16-mixed", scaler=None, **options):
    fn.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 40), nn.LayerNorm(40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 3)
    )
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, precision=precision, **options)
    if scaler is not None:  # that of float16, which the CPU has no kernels for
        trainer.precision.scaler = fn.amp.GradScaler("cpu", 2.0**127, growth_interval=3)
    return trainer


def bits(trainer):
    state = trainer.optimizer.state_dict()["state"]
    slots = [np.asarray(v).tobytes() for s in state.values() for v in s.values()]
    scaler = trainer.precision.scaler
    return (
        [v.numpy().tobytes() for v in trainer.model.state_dict().values()],
        slots,
        None if scaler is None else scaler.state_dict(),
    )


FIT = {"batch_size": 16, "epochs": 3, "seed": 1, "verbose": 0}


def test_a_fit_is_the_loop_written_by_hand_captured_or_not_on_any_threads():
    ours = make()
    losses = ours.fit(X, Y, validation_data=(X, Y), **FIT).history["val_loss"]
    eager = make(capture=False)
    assert eager.fit(X, Y, validation_data=(X, Y), **FIT).history["val_loss"] == losses
    fn.set_num_threads(3)
    threads = make()
    threads.fit(X, Y, **FIT)
    hand = make()
    for epoch in range(3):
        order = fn.random.permutation(len(X), 1, epoch)
        for start in range(0, len(X), 16):
            part = order[start : start + 16]
            hand.optimizer.zero_grad()
            with fn.autocast("cpu"):
                outputs = hand.model(X[part])
            F.cross_entropy(outputs.to("float32"), Y[part]).backward()
            hand.optimizer.step()
    assert bits(ours) == bits(eager) == bits(threads) == bits(hand)
    weights = ours.model.state_dict().values()
    assert {v.dtype for v in weights} == {"float32"}
    assert make().predict(X).dtype == np.float32
    with fn.autocast("cpu"):
        expected = ours.model.predict(X)
    assert_bitwise_equal(ours.predict(X), expected)
    assert np.abs(ours.model.predict(X) - expected).max() > 1e-5  # without it they differ


def test_it_learns_what_float32_learns():
    results = [
        make(p).fit(X, Y, **{**FIT, "epochs": 30}).history["loss"]
        for p in ("32-true", "bf16-mixed")
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=0.05)
    assert results[0] != results[1]
    assert results[1][-1] < 0.5 * results[1][0]


class Stop(fn.train.Callback):
    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_train_batch_end(self, batch, logs):
        if (self.trainer.epoch, batch) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("scaler", [None, True])
def test_a_resumed_fit_has_the_same_bits(tmp_path, scaler):
    options = {"scaler": scaler, "gradient_clip_val": 1.0}
    # Large gradients, so that some of them overflow: of steps before and after the stop.
    fit = {**FIT, "class_weight": {0: 1000.0}}
    whole = make(**options)
    whole.fit(X, Y, **fit)
    first = make(**options)
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, callbacks=[Stop(1, 2)], **fit)
    path = str(tmp_path / "last.safetensors")
    first.save(path)
    rest = make(**options)
    rest.load(path)
    done = first.optimizer.step_count
    rest.fit(X, Y, initial_epoch=None, **{k: v for k, v in fit.items() if k != "seed"})
    assert bits(rest) == bits(whole)
    if scaler:
        assert done < 9
        assert whole.optimizer.step_count - done < 9


def test_checkpoints_know_about_the_scale(tmp_path):
    path = str(tmp_path / "last.safetensors")
    make(scaler=True).save(path)
    before = bits(make())
    trainer = make()
    with pytest.raises(CheckpointError) as error:
        trainer.load(path)
    assert str(error.value) == f"{path}: scaler: expected none, got GradScaler"
    assert bits(trainer) == before
    make().save(path)
    with pytest.raises(CheckpointError) as error:
        make(scaler=True).load(path)
    assert str(error.value) == f"{path}: scaler: expected GradScaler, got none"


BAD_PRECISIONS = {
    "half": (
        {},
        "Trainer: expected precision '32-true', 'bf16-mixed' or '16-mixed', got 'half'",
    ),
    "16-mixed": (
        {},
        "Trainer: expected precision '32-true' or 'bf16-mixed' on cpu, got '16-mixed': float16 has "
        "kernels on cuda only; 'bf16-mixed' is as fast and needs no scale of the loss",
    ),
}


@pytest.mark.parametrize("precision", BAD_PRECISIONS)
def test_precisions_that_are_none(precision):
    options, message = BAD_PRECISIONS[precision]
    with pytest.raises(ValueError, match=r".") as error:
        make(precision, **options)
    assert str(error.value) == message


def test_what_looks_at_gradients_does_not_look_at_scaled_ones():
    trainer = make(scaler=True)
    trainer.precision.name = "16-mixed"
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(X, Y, callbacks=[fn.train.Monitor()], **FIT)
    assert str(error.value) == (
        "Monitor: expected precision '32-true' or 'bf16-mixed', got '16-mixed', whose gradients "
        "are scaled"
    )
