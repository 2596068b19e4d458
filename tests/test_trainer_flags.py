"""Weights of classes and samples, accumulation, clipping and limits: against loops by hand."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(100, 5)).astype(np.float32), RNG.integers(0, 3, 100)
W = RNG.uniform(0, 2, 100).astype(np.float32)


def make(loss=None, sizes=(5, 16, 3), lr=0.1, **options):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:]))
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return fn.Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, **options)


def weights(trainer):
    return np.concatenate([v.numpy().ravel() for v in trainer.model.state_dict().values()])


def log_losses(trainer, x, y):
    z = trainer.predict(x).astype(np.float64)
    z -= z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]


# ---- weights --------------------


@pytest.mark.parametrize("capture", [True, False])
def test_sample_weights_scale_the_losses_and_the_gradient(capture):
    trainer = make(lr=0.0, capture=capture)
    losses = log_losses(trainer, X, Y)
    history = trainer.fit(X, Y, sample_weight=W, verbose=0).history
    assert history["loss"][0] == pytest.approx((W * losses).mean(), rel=1e-6)
    assert trainer.evaluate(X, Y, sample_weight=W)["loss"] == pytest.approx(
        (W * losses).mean(), rel=1e-6
    )
    ours, hand = make(capture=capture), make()
    ours.fit(X, Y, batch_size=100, epochs=3, shuffle=False, sample_weight=W, verbose=0)
    for _ in range(3):
        hand.optimizer.zero_grad()
        losses = fn.F.cross_entropy(hand.model(X), Y, reduction="none")
        ((losses * fn.tensor(W)).sum() * 0.01).backward()
        hand.optimizer.step()
    np.testing.assert_allclose(weights(ours), weights(hand), rtol=2e-6, atol=1e-7)


def test_class_weights_are_the_weights_of_their_samples():
    by_class, by_sample = make(), make()
    by_class.fit(X, Y, class_weight={0: 3.0, 2: 0.5}, epochs=2, verbose=0)
    by_sample.fit(X, Y, sample_weight=np.array([3.0, 1.0, 0.5])[Y], epochs=2, verbose=0)
    np.testing.assert_array_equal(weights(by_class), weights(by_sample))
    both, product = make(), make()
    both.fit(X, Y, class_weight={1: 2.0}, sample_weight=W, epochs=2, verbose=0)
    product.fit(X, Y, sample_weight=W * np.where(Y == 1, 2, 1), epochs=2, verbose=0)
    np.testing.assert_array_equal(weights(both), weights(product))


def test_a_weight_of_0_takes_a_sample_out_and_equal_weights_are_none():
    poisoned = Y.copy()
    poisoned[W < 1] = (poisoned[W < 1] + 1) % 3
    bits = []
    for y in (Y, poisoned):
        trainer = make()
        trainer.fit(X, y, sample_weight=W >= 1, epochs=2, verbose=0)
        bits.append(weights(trainer))
    np.testing.assert_array_equal(*bits)
    plain, ones = make(), make()
    plain.fit(X, Y, epochs=2, verbose=0)
    ones.fit(X, Y, sample_weight=np.ones(100), epochs=2, verbose=0)
    np.testing.assert_allclose(weights(plain), weights(ones), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_of_losses_of_several_values_per_sample(reduction):
    y = RNG.normal(size=(100, 3)).astype(np.float32)
    trainer = make(nn.MSELoss(reduction=reduction), lr=0.0)
    squares = (trainer.predict(X).astype(np.float64) - y) ** 2
    per_sample = squares.mean(1) if reduction == "mean" else squares.sum(1)
    loss = trainer.fit(X, y, sample_weight=W, verbose=0).history["loss"][0]
    assert loss == pytest.approx((W * per_sample).mean(), rel=1e-6)
    trainer = make(fn.F.mse_loss, lr=0.0)
    loss = trainer.fit(X, y, sample_weight=W, verbose=0).history["loss"][0]
    assert loss == pytest.approx((W * squares.mean(1)).mean(), rel=1e-6)


def test_validation_has_weights_of_its_own_and_none_of_the_classes():
    trainer = make(lr=0.0)
    losses = log_losses(trainer, X, Y)
    history = trainer.fit(
        X, Y, class_weight={0: 9.0}, validation_data=(X[:50], Y[:50], W[:50]), verbose=0
    ).history
    assert history["val_loss"][0] == pytest.approx((W * losses)[:50].mean(), rel=1e-6)
    history = trainer.fit(
        X, Y, class_weight={0: 9.0}, sample_weight=W, validation_split=0.5, verbose=0
    ).history
    assert history["val_loss"][0] == pytest.approx((W * losses)[50:].mean(), rel=1e-6)


def bare(outputs, y):
    return (outputs * outputs).mean()


BAD_WEIGHTS = {
    "shape": (
        {"sample_weight": W[:50]}, None,
        "fit: expected sample_weight of shape (100,), got (50,)",
    ),
    "negative": (
        {"sample_weight": np.where(np.arange(100) == 7, -1, W)}, None,
        "fit: expected finite sample_weight >= 0, got -1.0 at sample_weight[7]",
    ),
    "class": (
        {"class_weight": {"0": 1.0, 3: 2.0}}, None,
        "fit: expected classes of y in class_weight, got 0, 3",
    ),
    "class weight": (
        {"class_weight": {1: float("nan")}}, None,
        "fit: expected finite weights >= 0 in class_weight, got nan of class 1",
    ),
    "loss": (
        {"sample_weight": W}, bare,
        "fit: expected a loss of fastnn with reduction 'mean' or 'sum' for sample weights, got "
        "bare",
    ),
    "weighted loss": (
        {"sample_weight": W}, nn.CrossEntropyLoss(weight=[1.0, 2.0, 3.0]),
        "fit: expected a loss without weight for class_weight or sample_weight, got "
        "CrossEntropyLoss with one",
    ),
    "ignored": (
        {"sample_weight": W}, nn.CrossEntropyLoss(ignore_index=2),
        "fit: expected labels that all count with weights, got some to be ignored; give those "
        "samples a weight of 0",
    ),
    "validation": (
        {"validation_data": (X, Y, W[1:])}, None,
        "fit: validation_data: expected sample_weight of shape (100,), got (99,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(case):
    options, loss, message = BAD_WEIGHTS[case]
    trainer = make(loss)
    before = weights(trainer)
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(X, Y, verbose=0, **options)
    assert str(error.value) == message
    np.testing.assert_array_equal(weights(trainer), before)


def test_class_weights_need_classes():
    with pytest.raises(ValueError, match=r".") as error:
        make(nn.MSELoss()).fit(X, X[:, :3], class_weight={0: 1.0}, verbose=0)
    assert str(error.value) == (
        "fit: expected class indices of shape (n,) for class_weight, got y (100, 3) of float32"
    )


# ---- accumulation and clipping --------------------


@pytest.mark.parametrize("capture", [True, False])
def test_accumulated_batches_are_one_large_batch(capture):
    parts = make(accumulate_grad_batches=4, capture=capture)
    whole = make(capture=capture)
    few = parts.fit(X, Y, batch_size=8, epochs=3, seed=1, verbose=0)
    one = whole.fit(X, Y, batch_size=32, epochs=3, seed=1, verbose=0)
    assert parts.optimizer.step_count == whole.optimizer.step_count == 12
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(few.history["loss"], one.history["loss"], rtol=1e-5)
    assert few.history["accuracy"] == one.history["accuracy"]


def test_accumulation_is_captured_with_the_same_bits_and_resumes():
    bits = []
    for capture in (True, False):
        trainer = make(accumulate_grad_batches=3, capture=capture)
        trainer.fit(X, Y, batch_size=7, epochs=2, sample_weight=W, verbose=0)
        trainer.fit(X, Y, batch_size=7, epochs=4, sample_weight=W, initial_epoch=None, verbose=0)
        bits.append(weights(trainer).tobytes())
    assert bits[0] == bits[1]


def test_a_summed_loss_is_accumulated_as_it_is():
    parts = make(nn.CrossEntropyLoss(reduction="sum"), lr=1e-3, accumulate_grad_batches=4)
    whole = make(nn.CrossEntropyLoss(reduction="sum"), lr=1e-3)
    parts.fit(X, Y, batch_size=8, seed=1, verbose=0)
    whole.fit(X, Y, batch_size=32, seed=1, verbose=0)
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-5, atol=1e-6)


def test_clipping_by_value_is_the_loop_by_hand():
    ours, hand = (make(gradient_clip_val=0.01, gradient_clip_algorithm="value") for _ in range(2))
    ours.fit(X, Y, batch_size=100, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        hand.optimizer.zero_grad()
        nn.CrossEntropyLoss()(hand.model(X), Y).backward()
        nn.utils.clip_grad_value_(hand.model.parameters(), 0.01)
        hand.optimizer.step()
    np.testing.assert_array_equal(weights(ours), weights(hand))
    assert np.abs(weights(ours) - weights(make())).max() <= 0.1 * 0.01 * 2 * (1 + 1e-5)


# ---- limits --------------------


def test_limited_epochs_take_the_first_batches_of_each_order():
    ours, hand = make(limit_train_batches=2), make()
    logs = ours.fit(X, Y, batch_size=16, epochs=3, seed=4, verbose=0)
    assert ours.optimizer.step_count == 6
    assert len(logs.epoch) == 3
    for epoch in range(3):
        order = fn.random.permutation(100, 4, epoch)
        for rows in (order[:16], order[16:32]):
            hand.optimizer.zero_grad()
            nn.CrossEntropyLoss()(hand.model(X[rows]), Y[rows]).backward()
            hand.optimizer.step()
    np.testing.assert_array_equal(weights(ours), weights(hand))
    share = make(limit_train_batches=0.3)  # of 7 batches
    share.fit(X, Y, batch_size=16, verbose=0)
    assert share.optimizer.step_count == 2


def test_overfit_batches_learns_a_small_sample_by_heart():
    trainer = make(overfit_batches=2, lr=0.5)
    seen = []

    class Watch(fn.train.Callback):
        def on_train_batch_begin(self, batch):
            seen.append(batch)

    history = trainer.fit(
        X, Y, batch_size=10, epochs=200, validation_data=(X, Y), callbacks=[Watch()], verbose=0
    ).history
    assert history["accuracy"][-1] == 1.0
    assert seen == [0, 1] * 200
    assert trainer.evaluate(X[:20], Y[:20])["accuracy"] == 1.0
    assert history["val_loss"][-1] == pytest.approx(trainer.evaluate(X[:20], Y[:20])["loss"])


def test_limited_validation():
    trainer = make(lr=0.0, limit_val_batches=2)
    history = trainer.fit(X, Y, batch_size=10, validation_data=(X, Y), verbose=0).history
    assert history["val_loss"][0] == pytest.approx(trainer.evaluate(X[:20], Y[:20])["loss"])
    trainer = make(limit_val_batches=0)
    assert "val_loss" not in trainer.fit(X, Y, validation_split=0.5, verbose=0).history


def test_a_limited_run_with_a_schedule_resumes_with_the_same_bits(tmp_path):
    def maker():
        trainer = make(limit_train_batches=3, accumulate_grad_batches=2)
        trainer.schedule = fn.train.schedule.Schedule(
            optim.lr_scheduler.LinearLR(trainer.optimizer, 1.0, 0.1, 8), trainer.optimizer, "step"
        )
        return trainer

    whole = maker()
    whole.fit(X, Y, batch_size=16, epochs=4, seed=1, verbose=0)
    assert whole.optimizer.step_count == 8

    class Stop(fn.train.Callback):
        def on_train_batch_end(self, batch, logs):
            if (self.trainer.epoch, batch) == (1, 0):
                raise KeyboardInterrupt

    first = maker()
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, batch_size=16, epochs=4, seed=1, callbacks=[Stop()], verbose=0)
    path = str(tmp_path / "last.safetensors")
    first.save(path)
    rest = maker()
    rest.load(path)
    rest.fit(X, Y, batch_size=16, epochs=4, initial_epoch=None, verbose=0)
    np.testing.assert_array_equal(weights(rest), weights(whole))


BAD_FLAGS = {
    "gradient_clip_val": (0, "Trainer: expected gradient_clip_val > 0, got 0"),
    "gradient_clip_algorithm": (
        "l1", "Trainer: expected gradient_clip_algorithm 'norm' or 'value', got 'l1'"
    ),
    "accumulate_grad_batches": (
        0, "Trainer: expected a whole number accumulate_grad_batches >= 1, got 0"
    ),
    "overfit_batches": (
        -1,
        "Trainer: expected overfit_batches to be a number of batches or a share from 0.0 to 1.0, "
        "got -1",
    ),
    "limit_train_batches": (0, "Trainer: expected limit_train_batches above 0, got 0"),
    "limit_val_batches": (
        1.5,
        "Trainer: expected limit_val_batches to be a number of batches or a share from 0.0 to 1.0, "
        "got 1.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flag", BAD_FLAGS)
def test_bad_flags(flag):
    value, message = BAD_FLAGS[flag]
    with pytest.raises(ValueError, match=r".") as error:
        make(**{flag: value})
    assert str(error.value) == message
