"""How far weights have moved, and what they began with: recorded by fit, kept in a run folder."""

import json
from pathlib import Path

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import run
from fastnn import nn, optim
from fastnn.train.movement import Movement

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def small():
    fn.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))


def fit(model, loss=None, **more):
    trainer = fn.Trainer(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    return trainer, trainer.fit(X, Y, 10, verbose=0, **more)


def test_the_distance_from_the_start_after_1_2_4_epochs():
    model = small()
    start = {n: np.array(p.detach(), np.float64) for n, p in model.named_parameters()}
    expected = {"0.weight": [], "2.weight": []}

    class Watch(fn.train.Callback):
        def on_epoch_end(self, epoch, logs):
            for name, ratios in expected.items():
                w = np.array(dict(model.named_parameters())[name].detach(), np.float64)
                if epoch in (0, 1, 3):
                    w0 = start[name]
                    ratios.append(np.linalg.norm(w - w0) / np.linalg.norm(w0))

    _, history = fit(model, epochs=7, callbacks=[Watch()])
    assert history.moved.keys() == history.gains.keys() == expected.keys()
    for name, ratios in expected.items():
        np.testing.assert_allclose(history.moved[name], ratios, rtol=1e-12)
        rms = np.sqrt((start[name] ** 2).mean())
        assert history.gains[name] == pytest.approx(rms * np.sqrt(start[name].shape[1]), rel=1e-12)


def test_what_is_not_looked_at():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.Linear(4, 2))
    model[2].weight.copy_(np.zeros((2, 4), np.float32))
    movement = Movement(model)
    assert list(movement.ratios) == ["1.weight"]
    movement.measure(1)
    assert movement.ratios == {"1.weight": [0.0]}


def test_large_matrices_by_some_of_their_entries():
    model = nn.Linear(300, 70, bias=False)
    movement = Movement(model)
    model.weight.copy_(-2 * model.weight.detach())
    movement.measure(1)
    assert movement.ratios["weight"] == [pytest.approx(3.0, rel=1e-6)]


def test_some_of_many_matrices():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(150)))
    assert list(Movement(model).ratios) == [f"{i}.weight" for i in range(0, 150, 2)]


def test_a_training_that_goes_on_measures_nothing():
    trainer, history = fit(small(), epochs=2)
    assert [len(r) for r in history.moved.values()] == [2, 2]
    history = trainer.fit(X, Y, 10, epochs=4, initial_epoch=None, verbose=0)
    assert history.moved == history.gains == {}


@pytest.mark.parametrize(
    ("end", "loss", "told"),
    [
        ([], nn.CrossEntropyLoss(), 0),
        ([], fn.F.cross_entropy, 0),
        ([nn.Softmax()], nn.CrossEntropyLoss(), 1),
        ([nn.Softmax()], fn.F.cross_entropy, 1),
        ([nn.LogSoftmax()], nn.NLLLoss(), None),
        ([nn.Softmax()], lambda z, y: fn.F.nll_loss(fn.F.log_softmax(z), y), None),
    ],
)
def test_probabilities_before_a_cross_entropy_are_noted(end, loss, told):
    _, history = fit(nn.Sequential(nn.Linear(5, 2), *end), loss, epochs=1)
    assert history.params.get("probabilities") == told


def test_the_order_is_noted_where_it_is_known():
    assert fit(small(), shuffle=False)[1].params["shuffle"] == 0
    assert fit(small())[1].params["shuffle"] == 1
    sampler = fn.train.BalancedSampler(Y)
    assert "shuffle" not in fit(small(), shuffle=sampler)[1].params


@pytest.mark.usefixtures("elsewhere")
def test_a_run_folder_keeps_them_and_older_ones_have_a_diagnosis():
    low = ["--set", "optim.lr=1e-6", "--set", "train.epochs=12"]
    run("train", "digits", "-q", "-o", "out", *low)
    path = Path("out/fit.json")
    facts = json.loads(path.read_text())
    assert [len(r) for r in facts["moved"].values()] == [4, 4]
    assert "weights moved by 0." in run("diagnose", "out").stdout
    run("train", "-q", "--resume", "out", "--set", "train.epochs=13")
    after = json.loads(path.read_text())
    assert (after["moved"], after["gains"]) == (facts["moved"], facts["gains"])
    known = ("samples", "val_samples", "classes", "batch_size", "epochs")
    facts["params"] = {name: facts["params"][name] for name in known}
    path.write_text(json.dumps({k: v for k, v in facts.items() if k not in ("moved", "gains")}))
    told = run("diagnose", "out").stdout
    assert told.startswith("learning rate too low: loss 2.")
    assert "and falls as before" in told
    assert "moved" not in told
    run("report", "out")
