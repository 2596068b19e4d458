"""Labels that the loss leaves out, through fit and evaluate: they count in no mean."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 103)
IGNORED = RNG.random(103) < 0.4


def labels(ignored=-100):
    return np.where(IGNORED, ignored, Y)


def make(loss=None, lr=0.0, capture=True):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return fn.Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, capture=capture)


def expected(trainer):
    outputs = trainer.predict(X).astype(np.float64)[~IGNORED]
    y = Y[~IGNORED]
    shifted = outputs - outputs.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]
    return losses.mean(), (outputs.argmax(1) == y).mean()


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("ignored", [-100, -1, 2**40, 255])
def test_means_are_over_the_labels_that_count(ignored, capture):
    """lr is 0, so all batches see the same model: the mean over the epoch is that of the data."""
    trainer = make(nn.CrossEntropyLoss(ignore_index=ignored), capture=capture)
    loss, accuracy = expected(trainer)
    history = trainer.fit(X, labels(ignored), batch_size=32, epochs=2, verbose=0).history
    result = trainer.evaluate(X, labels(ignored))
    for got in (history["loss"][0], history["loss"][1], result["loss"]):
        assert got == pytest.approx(loss, rel=1e-6)
    for got in (*history["accuracy"], result["accuracy"]):
        assert got == accuracy


@pytest.mark.parametrize("capture", [True, False])
def test_fit_is_the_loop_written_by_hand(capture):
    trainer, other = make(lr=0.1, capture=capture), make(lr=0.1)
    trainer.fit(X, labels(), batch_size=32, epochs=1, shuffle=False, verbose=0)
    for at in range(0, 103, 32):
        other.optimizer.zero_grad()
        F.cross_entropy(other.model(X[at : at + 32]), labels()[at : at + 32]).backward()
        other.optimizer.step()
    for got, want in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        assert np.array(got).tobytes() == np.array(want).tobytes()


def test_a_sum_is_shared_out_over_the_labels_that_count():
    trainer = make(nn.CrossEntropyLoss(reduction="sum"))
    loss, _ = expected(trainer)
    assert trainer.evaluate(X, labels())["loss"] == pytest.approx(loss, rel=1e-6)
    history = trainer.fit(X, labels(), batch_size=32, verbose=0).history
    assert history["loss"][0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss()], ids=["F", "nn"])
def test_torchs_default_label_is_allowed_for_functions_too(loss):
    trainer = make(loss)
    assert trainer.evaluate(X, labels())["accuracy"] == expected(trainer)[1]


def test_several_labels_per_sample_count_one_by_one():
    """y of shape (n, 3): half of the labels of some samples, none of others."""
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    x = RNG.normal(size=(50, 3, 5)).astype(np.float32)
    y = np.where(RNG.random((50, 3)) < 0.5, -100, RNG.integers(0, 4, (50, 3)))
    y[7] = -100
    loss = F.cross_entropy(model(x), y).item()
    accuracy = (model.predict(x).argmax(-1) == y).sum() / (y != -100).sum()
    history = trainer.fit(x, y, batch_size=16, verbose=0).history
    for result in (trainer.evaluate(x, y), {k: history[k][0] for k in ("loss", "accuracy")}):
        assert result["loss"] == pytest.approx(loss, rel=1e-6)
        assert result["accuracy"] == accuracy


def test_validation_leaves_them_out_too():
    trainer = make()
    loss, accuracy = expected(trainer)
    history = trainer.fit(X, Y, validation_data=(X, labels()), verbose=0).history
    assert history["val_loss"][0] == pytest.approx(loss, rel=1e-6)
    assert history["val_accuracy"][0] == accuracy
    assert history["accuracy"][0] == (trainer.predict(X).argmax(1) == Y).mean()
    at = int(103 * 0.8)
    history = trainer.fit(X, labels(), validation_split=0.2, verbose=0).history
    part = trainer.evaluate(X[at:], labels()[at:])
    assert history["val_loss"][0] == part["loss"]


def test_blocks_without_labels_do_not_spoil_an_evaluation():
    x, y = np.concatenate([X] * 30), np.concatenate([Y, *[np.full(103, -100)] * 29])
    trainer = make()
    assert trainer.evaluate(x, y) == pytest.approx(trainer.evaluate(X, Y), rel=1e-6)


@pytest.mark.parametrize("capture", [True, False])
def test_a_batch_without_labels_has_no_mean(capture):
    """0 / 0, as in torch, but as an error of the step, which changes nothing."""
    trainer = make(lr=0.1, capture=capture)
    y = Y.copy()
    y[32:64] = -100
    before = [np.array(p.detach()) for p in trainer.model.parameters()]
    with pytest.raises(ValueError, match=r"epoch 1, step 1: .*expected a finite value, got NaN"):
        trainer.fit(X[32:], y[32:], batch_size=32, shuffle=False, verbose=0)
    for old, p in zip(before, trainer.model.parameters(), strict=True):
        assert np.array(p.detach()).tobytes() == old.tobytes()


BAD = {
    "another label": (nn.CrossEntropyLoss(), -1, "fit: expected 0 <= y < 3, one class per output "
                      "of the model, got -1 at y[{at}]"),
    "another number": (nn.CrossEntropyLoss(ignore_index=-1), -100, "fit: expected 0 <= y < 3, one "
                       "class per output of the model, got -100 at y[{at}]"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_labels_that_the_loss_does_not_ignore_are_refused(case):
    loss, ignored, message = BAD[case]
    with pytest.raises(ValueError, match="expected") as caught:
        make(loss).fit(X, labels(ignored), verbose=0)
    assert str(caught.value) == message.format(at=np.flatnonzero(IGNORED)[0])


@pytest.mark.parametrize("op", ["fit", "evaluate"])
def test_nothing_but_ignored_labels_is_refused(op):
    with pytest.raises(ValueError, match="expected") as caught:
        getattr(make(), op)(X, np.full(103, -100))
    assert str(caught.value) == (
        f"{op}: expected at least one label that counts, got y == -100 (ignore_index) everywhere"
    )


def test_going_on_in_the_middle_of_an_epoch_keeps_the_means():
    class Stop(fn.train.Callback):
        def on_train_batch_end(self, batch, logs):
            if batch == 1:
                raise KeyboardInterrupt

    trainer, whole = make(lr=0.1), make(lr=0.1)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, labels(), batch_size=32, seed=3, callbacks=[Stop()], verbose=0)
    history = trainer.fit(X, labels(), batch_size=32, seed=3, initial_epoch=None, verbose=0).history
    expected = whole.fit(X, labels(), batch_size=32, seed=3, verbose=0).history
    assert [history[k] for k in ("loss", "accuracy")] == [expected[k] for k in ("loss", "accuracy")]
