"""The Trainer on nn.Stacked: every model has the bits of its own training."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.train import EMA, EarlyStopping, ModelCheckpoint, Objective, TerminateOnNaN
from fastnn.train.metrics import F1Score

SEEDS, RATES = (3, 1, 4), (0.1, 0.05, 0.01)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 12)).astype(np.float32)
Y = (X[:, :3] + 0.5 * RNG.standard_normal((70, 3))).argmax(axis=1)
FIT = {"epochs": 3, "batch_size": 16, "validation_split": 0.2, "seed": 5, "verbose": 0}


def make_mlp():
    return nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 3))


def make_convolutional():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(),
                         nn.Linear(4, 3))  # fmt: skip


def objective():
    return Objective(
        nn.CrossEntropyLoss(),
        l2=fn.train.WeightPenalty(fn.F.l2_penalty, 1e-3),
        sparsity=fn.train.ActivationPenalty("1", fn.F.l1_penalty, 1e-3),
    )


def stacked(make=make_mlp, loss=None, **options):
    stack = nn.Stacked(make, seeds=SEEDS)
    optimizer = optim.SGD(stack.param_groups(lr=RATES), momentum=0.9)
    return fn.Trainer(stack, loss or nn.CrossEntropyLoss(), optimizer, **options)


def alone(i, make=make_mlp, loss=None, **options):
    fn.manual_seed(SEEDS[i])
    model = make()
    optimizer = optim.SGD(model.parameters(), lr=RATES[i], momentum=0.9)
    return fn.Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, **options)


def assert_same(one, other):
    state = other.state_dict()
    for name, value in one.state_dict().items():
        assert_bitwise_equal(np.array(value), np.array(state[name]), name)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (make_mlp, {}),
        (make_mlp, {"capture": False}),
        (make_mlp, {"gradient_clip_val": 0.3}),
        (make_mlp, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}),
        (make_mlp, {"accumulate_grad_batches": 2}),
        (make_mlp, {"loss": objective}),
        (make_mlp, {"metrics": ["accuracy", F1Score]}),
        (make_convolutional, {}),
    ],
)
def test_every_model_has_the_bits_and_the_logs_of_its_own_training(make, options):
    x = X if make is make_mlp else X.reshape(70, 1, 4, 3)

    def options_of():  # metrics and penalties hold a state
        own = {**options}
        if "metrics" in own:
            own["metrics"] = [m if isinstance(m, str) else m() for m in own["metrics"]]
        if "loss" in own:
            own["loss"] = own["loss"]()
        return own

    trainer = stacked(make, **options_of())
    history = trainer.fit(x, Y, **FIT).history
    members, logs = trainer.model.unstack(), []
    for i, member in enumerate(members):
        other = alone(i, make, **options_of())
        logs.append(other.fit(x, Y, **FIT).history)
        assert_same(member, other.model)
        assert_bitwise_equal(trainer.predict(x)[i], other.predict(x))
    measured = logs[0].keys() - {"lr", "seconds", "samples_per_s"}
    for name in measured:
        for i, own in enumerate(logs):
            assert history[f"{name}_{i}"] == own[name]
        assert history[name] == pytest.approx(np.mean([own[name] for own in logs], axis=0))
    names = {f"{name}_{i}" for name in measured for i in range(3)}
    assert history.keys() == logs[0].keys() | names


def test_penalties_are_added_to_gradients_that_accumulate_in_another_order():
    options = {"accumulate_grad_batches": 2}
    trainer = stacked(loss=objective(), **options)
    trainer.fit(X, Y, **FIT)
    for i, member in enumerate(trainer.model.unstack()):
        other = alone(i, loss=objective(), **options)
        other.fit(X, Y, **FIT)
        for p, q in zip(member.parameters(), other.model.parameters(), strict=True):
            np.testing.assert_allclose(p.detach(), q.detach(), rtol=0, atol=2**-22)


def test_sample_weights_ignored_labels_and_evaluate():
    weights = RNG.random(70)
    trainer = stacked()
    trainer.fit(X, Y, sample_weight=weights, **FIT)
    y = np.where(np.arange(70) % 5 == 0, -100, Y)
    trainer.fit(X, y, **FIT)
    scores = trainer.evaluate(X, y)
    for i, member in enumerate(trainer.model.unstack()):
        other = alone(i)
        other.fit(X, Y, sample_weight=weights, **FIT)
        other.fit(X, y, **FIT)
        assert_same(member, other.model)
        assert [scores[f"loss_{i}"], scores[f"accuracy_{i}"]] == list(other.evaluate(X, y).values())


class Interrupt(fn.train.Callback):
    def on_train_batch_end(self, batch, logs):
        if batch == 1:
            raise KeyboardInterrupt


def test_a_training_goes_on_in_the_middle_of_an_epoch(tmp_path):
    whole, first, rest = stacked(), stacked(), stacked()
    expected = whole.fit(X, Y, **FIT, callbacks=[EMA(0.9)]).history
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, **FIT, callbacks=[EMA(0.9), Interrupt()])
    first.save(str(tmp_path / "last"))
    rest.load(str(tmp_path / "last"))
    got = rest.fit(X, Y, **FIT, callbacks=[EMA(0.9)], initial_epoch=None).history
    assert_same(rest.model, whole.model)
    for name in expected.keys() - {"seconds", "samples_per_s"}:
        assert got[name] == expected[name], name


def test_the_best_epoch_is_that_of_the_member_named_and_a_file_holds_all(tmp_path):
    stop = EarlyStopping("val_loss_2", patience=30, restore_best_weights=True)
    keep = ModelCheckpoint(str(tmp_path / "best"), "val_loss_2", save_best_only=True)
    trainer = stacked()
    history = trainer.fit(X, Y, **{**FIT, "epochs": 8}, callbacks=[stop, keep]).history
    assert stop.best_epoch == int(np.argmin(history["val_loss_2"]))
    scores = trainer.evaluate(X[56:], Y[56:])
    assert scores["loss_2"] == history["val_loss_2"][stop.best_epoch]
    assert scores["loss_0"] == history["val_loss_0"][stop.best_epoch]
    ensemble = nn.Ensemble(trainer.model.unstack())
    mean = np.mean([m.predict_proba(X) for m in trainer.model.unstack()], axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(X), mean, rtol=1e-5)
    np.testing.assert_allclose(trainer.model.predict_proba(X).mean(axis=0), mean, rtol=1e-6)


def test_a_loss_that_is_not_finite_ends_all_and_says_where():
    trainer = stacked()
    nn.init.constant_(trainer.model.unstack()[1][3].bias, float("inf"))
    before = [np.array(p.detach()) for p in trainer.model.parameters()]
    terminate = TerminateOnNaN()
    with pytest.warns(RuntimeWarning):
        trainer.fit(X, Y, **FIT, callbacks=[terminate])
    assert (terminate.found.layer, terminate.found.kind) == ("1.3", "Linear")
    for p, value in zip(trainer.model.parameters(), before, strict=True):
        assert_bitwise_equal(np.array(p.detach()), value)


def test_other_precision_is_refused():
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        stacked(precision="bf16-mixed")
    assert str(caught.value) == (
        "Trainer: expected precision '32-true' with Stacked, which has kernels for float32, got "
        "'bf16-mixed'"
    )
