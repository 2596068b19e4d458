"""What fit refuses before it changes anything, and what errors and Ctrl-C in an epoch leave."""

import signal

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim


def make(dropout=0.2, capture=True):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    return fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, capture=capture)


def weights(trainer):
    return np.concatenate([v.numpy().ravel() for v in trainer.model.state_dict().values()])


def state(trainer):
    optimizer = trainer.optimizer.state_dict()
    return weights(trainer).tobytes(), str(optimizer), fn.random.get_state()


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(100, 5)).astype(np.float32), RNG.integers(0, 3, 100)


# ---- bad input: the message, and nothing changed --------------------


def nan_at(row, column, value=np.nan):
    x = X.copy()
    x[row, column] = value
    return x


def label_at(index, value):
    y = Y.copy()
    y[index] = value
    return y


BAD_DATA = {
    "features": (
        (X[:, :4], Y, {}),
        "linear '0': expected input.shape[-1] == 5 to fit weight (16, 5), got input (1, 4)",
    ),
    "lengths": (
        (X, Y[:99], {}),
        "fit: expected as many labels as samples, got x (100, 5) and y (99,)",
    ),
    "no samples": ((X[:0], Y[:0], {}), "fit: expected at least one sample, got x (0, 5)"),
    "scalars": ((1.0, 1, {}), "fit: expected x and y with an axis of samples, got x () and y ()"),
    "NaN": (
        (nan_at(7, 3), Y, {}),
        "fit: expected x without NaN or infinity, got nan at row 7, column 3",
    ),
    "infinity": (
        (nan_at(99, 4, -np.inf), Y, {}),
        "fit: expected x without NaN or infinity, got -inf at row 99, column 4",
    ),
    "label above": (
        (X, label_at(42, 3), {}),
        "fit: expected 0 <= y < 3, one class per output of the model, got 3 at y[42]",
    ),
    "label below": (
        (X, label_at(0, -1), {}),
        "fit: expected 0 <= y < 3, one class per output of the model, got -1 at y[0]",
    ),
    "label shape": (
        (X, Y[:, None], {}),
        "cross_entropy: expected target of shape (1,), one class index for each row of input "
        "(1, 3), got (1, 1)",
    ),
    "validation": (
        (X, Y, {"validation_data": (X, label_at(5, 9))}),
        "fit: validation_data: expected 0 <= y < 3, one class per output of the model, got 9 at "
        "y[5]",
    ),
    "batch size": (
        (X, Y, {"batch_size": 0}),
        "fit: expected a whole number batch_size >= 1, got 0",
    ),
    "batch half": (
        (X, Y, {"batch_size": 1.5}),
        "fit: expected a whole number batch_size >= 1, got 1.5",
    ),
    "epochs": ((X, Y, {"epochs": 0}), "fit: expected a whole number epochs >= 1, got 0"),
    "split": (
        (X, Y, {"validation_split": 1.0}),
        "fit: expected 0 <= validation_split < 1, got 1.0",
    ),
    "split of one": (
        (X[:1], Y[:1], {"validation_split": 0.5}),
        "fit: expected samples on both sides of validation_split 0.5, got 0 and 1",
    ),
    "verbose": ((X, Y, {"verbose": 3}), "fit: expected verbose 0, 1 or 2, got 3"),
    "seed": ((X, Y, {"seed": -1}), "fit: expected 0 <= seed < 2**64, got -1"),
    "first epoch": ((X, Y, {"initial_epoch": -1}), "fit: expected initial_epoch >= 0, got -1"),
    "pair": (
        (X, Y, {"validation_data": (X, Y, Y, Y)}),
        "fit: expected validation_data (x, y) or (x, y, sample_weight), got 4 items",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_input_has_its_message_and_changes_nothing(case):
    (x, y, options), message = BAD_DATA[case]
    trainer = make()
    trainer.fit(X, Y, verbose=0)
    before = state(trainer)
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(x, y, **{"verbose": 0, "epochs": 2, **options})
    assert str(error.value) == message
    assert state(trainer) == before


@pytest.mark.parametrize("y", [np.array(["a"] * 100), np.ones(100, complex)])
def test_what_is_no_number_is_a_type_error(y):
    with pytest.raises(TypeError, match=r"^tensor: expected .*numbers, got"):
        make().fit(X, y, verbose=0)


def test_bad_trainers():
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(model.parameters())
    with pytest.raises(
        ValueError, match=r"^Trainer: expected an optimizer of the model's parameters, got"
    ):
        fn.Trainer(model, loss, optim.SGD(other.parameters()))
    with pytest.raises(
        ValueError, match=r"^Trainer: expected metrics \('accuracy',\) or \(\), got \('f1',\)$"
    ):
        fn.Trainer(model, loss, optimizer, metrics=["f1"])
    with pytest.raises(ValueError, match=r"^Trainer: expected gradient_clip_val > 0, got 0$"):
        fn.Trainer(model, loss, optimizer, gradient_clip_val=0)


def test_loss_that_is_no_scalar():
    trainer = make()
    trainer.loss = nn.CrossEntropyLoss(reduction="none")
    with pytest.raises(
        ValueError, match=r"^fit: expected a loss that is a scalar Tensor, got shape \(1,\)$"
    ):
        trainer.fit(X, Y, verbose=0)


def test_accuracy_without_classes():
    trainer = make()
    trainer.metrics = ("accuracy",)
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(X, np.ones((100, 3), np.float32), verbose=0)
    assert str(error.value) == (
        "fit: expected class indices for the accuracy, one per row of the outputs ('n', 3), got y "
        "(100, 3) of float32"
    )


# ---- errors inside an epoch --------------------


def overflowing(row):
    """Weights of 2 make this row's hidden units infinite, and the loss NaN."""
    x = X.copy()
    x[row] = 3e38
    return x


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("batch_of_error", [0, 1, 3])
def test_a_loss_that_is_not_finite_leaves_the_last_good_step(capture, batch_of_error):
    x, y = overflowing(batch_of_error * 25 + 3), Y
    bad, good = make(capture=capture, dropout=0.0), make(dropout=0.0)
    for trainer in (bad, good):
        nn.init.constant_(trainer.model[0].weight, 2.0)
    with pytest.raises(ValueError, match=r".") as error:
        bad.fit(x, y, batch_size=25, epochs=2, shuffle=False, verbose=0)
    assert str(error.value).startswith(f"fit: epoch 1, step {batch_of_error + 1}: ")
    assert bad.optimizer.step_count == batch_of_error
    if batch_of_error:
        n = batch_of_error * 25
        good.fit(x[:n], y[:n], batch_size=25, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights(bad), weights(good))


def test_a_validation_loss_that_is_not_finite_says_so():
    trainer = make()
    nn.init.constant_(trainer.model[0].weight, 2.0)
    with pytest.raises(
        ValueError, match=r"^fit: epoch 1, validation: loss: expected a finite value"
    ):
        trainer.fit(X, Y, validation_data=(overflowing(0), Y), verbose=0)
    assert trainer.position.done == 100


@pytest.mark.parametrize("capture", [True, False])
def test_interrupted_between_steps_and_continued(capture):
    class Interrupt(fn.train.Callback):
        def on_train_batch_end(self, batch, logs):
            if (self.trainer.epoch, batch) == (1, 2):
                signal.raise_signal(signal.SIGINT)

    stopped, whole = make(capture=capture), make(capture=capture)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y, batch_size=16, epochs=3, callbacks=[Interrupt()], verbose=0)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped.optimizer.step_count == 7 + 3
    rest = stopped.fit(X, Y, batch_size=16, epochs=3, initial_epoch=None, verbose=0)
    bits = weights(stopped).tobytes()
    fn.manual_seed(0)
    history = whole.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    assert bits == weights(whole).tobytes()
    assert rest.epoch == [1, 2]
    assert rest.history["loss"] == history.history["loss"][1:]


def test_going_on_with_other_data_is_refused():
    trainer = make()
    trainer.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(X[:50], Y[:50], epochs=2, initial_epoch=None, verbose=0)
    assert str(error.value) == (
        "fit: expected 100 samples in batches of 32 to go on, got 50 in batches of 32"
    )
