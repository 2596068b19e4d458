"""Ensembles: the average of probabilities, as one model that is evaluated, trained and saved."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim
from fastnn.train import SnapshotEnsemble

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype(np.float32), RNG.integers(0, 3, 60)


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_an_ensemble_averages_probabilities_not_outputs():
    models = [nn.Sequential(nn.Linear(4, 3)) for _ in range(4)]
    ensemble = nn.Ensemble(models)
    outputs = [10 * m.predict(X).astype(np.float64) for m in models]
    for m in models:
        m[0].weight.copy_(m[0].weight.detach() * 10.0)
        m[0].bias.copy_(m[0].bias.detach() * 10.0)
    expected = np.mean([softmax(z) for z in outputs], axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, rtol=1e-5)
    assert (ensemble.predict(X).argmax(1) == expected.argmax(1)).all()
    assert np.abs(softmax(np.mean(outputs, axis=0)) - expected).max() > 0.05
    trainer = fn.Trainer(ensemble, nn.CrossEntropyLoss(), optim.SGD(ensemble.parameters()))
    loss = -np.log(expected[np.arange(60), Y]).mean()
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(loss, rel=1e-5)


def test_an_ensemble_of_outputs_is_their_mean_and_can_be_trained():
    models = [nn.Linear(4, 1) for _ in range(3)]
    ensemble = nn.Ensemble(models, "outputs")
    expected = np.mean([m.predict(X) for m in models], axis=0)
    np.testing.assert_allclose(ensemble.predict(X), expected, rtol=1e-5, atol=1e-6)
    y = X[:, :1] * 2
    trainer = fn.Trainer(ensemble, nn.MSELoss(), optim.SGD(ensemble.parameters(), lr=0.3))
    assert trainer.fit(X, y, epochs=60, verbose=0).history["loss"][-1] < 1e-3


def test_an_ensemble_is_saved_and_loaded_as_one(tmp_path):
    path = str(tmp_path / "e.safetensors")
    ensemble = nn.Ensemble([make().model, nn.Sequential(nn.Linear(4, 3))])
    fn.train.save_model(path, ensemble)
    again = fn.train.load_model(path)
    np.testing.assert_array_equal(again.predict_proba(X), ensemble.predict_proba(X))
    assert repr(again) == repr(ensemble)


def test_an_ensemble_beats_its_mean_member():
    digits = fn.data.load("digits")
    train, test = fn.data.stratified_split(digits.y, 0.3, 0)
    x = (digits.x / 16).astype(np.float32)

    def trainer(width):
        model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        return fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=3e-3))

    before = fn.random.get_state()
    ensemble, drawn = fn.train.random_ensemble(
        trainer, {"width": [16, 24, 32]}, 5, x[train], digits.y[train], epochs=6
    )
    assert fn.random.get_state() == before
    assert len(drawn) == len(ensemble) == 5
    scores = [(m.predict(x[test]).argmax(1) == digits.y[test]).mean() for m in ensemble]
    score = (ensemble.predict(x[test]).argmax(1) == digits.y[test]).mean()
    assert score > np.mean(scores) + 0.003


def test_ensemble_messages():
    with pytest.raises(ValueError, match=r"^Ensemble: expected at least one model, got none$"):
        nn.Ensemble([])
    with pytest.raises(ValueError, match=r".") as error:
        nn.Ensemble([nn.ReLU()], "logits")
    assert str(error.value) == (
        "Ensemble: expected average 'probabilities' or 'outputs', got 'logits'"
    )
    with pytest.raises(TypeError, match=r"^Ensemble: expected Modules, got int at position 1$"):
        nn.Ensemble([nn.ReLU(), 3])
    with pytest.raises(ValueError, match=r"^SnapshotEnsemble: expected cycle >= 1, got 0$"):
        SnapshotEnsemble(0)
    with pytest.raises(ValueError, match=r"^random_ensemble: expected k >= 1, got 0$"):
        fn.train.random_ensemble(make, {}, 0, X, Y)
    with pytest.raises(ValueError, match=r"^random_ensemble: expected choices for 'lr', got none$"):
        fn.train.random_ensemble(make, {"lr": []}, 1, X, Y)
