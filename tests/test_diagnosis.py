"""Each bug, injected into a real training, is named; tools/diagnose_eval.py measures how often."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import run
from fastnn.train.curves import Curves, likeness
from fastnn.train.diagnosis import REMEDIES

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


load("diagnose_data")
load("diagnose_setup")
RUNS = load("diagnose_runs")
NAMES = load("diagnose_eval").NAMES


@pytest.mark.parametrize("bug", NAMES)
def test_a_bug_in_a_real_training_is_named(bug):
    found = next(RUNS.runs("dev", bug, 1))
    diagnosis = fn.train.diagnose(found.history, found.monitor)
    assert diagnosis.name == NAMES[bug]
    for problem in diagnosis.problems:
        assert problem.remedy == REMEDIES[problem.name]
        assert str(problem) == f"{problem.name}: {problem.evidence}; {problem.remedy}"


def curves(loss, val_loss=(), accuracy=(), val_accuracy=(), classes=10, val_samples=500, **more):
    series = {
        "loss": loss, "val_loss": val_loss, "accuracy": accuracy, "val_accuracy": val_accuracy,
    }  # fmt: skip
    params = {"classes": classes, "val_samples": val_samples, **more.pop("params", {})}
    first = more.pop("first", math.log(classes) if classes else loss[0])
    return Curves.of(series, params, first, more.pop("error", None), **more)


T = np.arange(30)
FALL = 2.0 * np.exp(-T / 3) + 0.05
EVIDENCE = {
    "healthy": (curves(FALL, FALL + 0.02, 1 - FALL / 3, 0.98 - FALL / 3), None),
    "diverged": (
        curves([2.0, 1.5, math.nan]), "the loss of epoch 3 is not finite",
    ),
    "wrong sign": (
        curves([2.5, 3.0, 4.0, 6.0]), "the loss rises from 2.3 to 6, in 100 % of epochs",
    ),
    "not learning": (
        curves([2.4] * 8, [2.5] * 8, [0.1] * 8, [0.1] * 8),
        "loss 2.4 in the first epoch, 2.4 in the last",
    ),
    "softmax before the loss": (
        curves(1.5 + FALL / 20, 1.52 + FALL / 20, 0.97 + 0 * T, 0.95 + 0 * T, first=2.3),
        "loss 1.5 with 97 % right, where a second softmax allows 1.46 at least",
    ),
    "learning rate too high": (
        curves([9.0, 5.0, *[2.2] * 28], (), [0.1, 0.12, *[0.13] * 28]),
        "loss 2.3 at first, 9 soon after, 2.2 at last",
    ),
    "slow start": (
        curves([2.302, 2.3, 2.29, *FALL[:27]], (), [0.1, 0.1, 0.1, *(1 - FALL[:27] / 3)]),
        "loss 2.303 for 3 epochs, then down to 0.0507",
    ),
    "learning rate too low": (
        curves(2.6 - 0.01 * T, (), 0.1 + 0.002 * T, first=2.7),
        "loss 2.6 after an epoch, 2.31 at last, and falls as before",
    ),
    "not converged": (
        curves([2.0, 1.6, 1.3, 1.05, 0.85], (), [0.3, 0.5, 0.6, 0.7, 0.75]),
        "the loss still falls by 26 % in each epoch",
    ),
    "overfit": (
        curves(FALL, 1.5 + 0.02 * T, 1 - FALL / 3, 0.6 + 0 * T),
        "98 % right in training, 38 points less in validation",
    ),
    "underfit": (
        curves(1.5 + FALL / 4, 1.6 + FALL / 4, 0.5 - FALL / 8, 0.48 - FALL / 8),
        "49 % right, in training too",
    ),
    "validation set too small": (
        curves(FALL, FALL, 1 - FALL / 3, 1 - FALL / 3, val_samples=20),
        "20 samples: one more mistake is 5.0 points",
    ),
    "not shuffled": (
        curves(
            FALL, FALL, 1 - FALL / 3, 1 - FALL / 3,
            steps=[(e, 1 + math.sin(s) + 0.01 * e) for e in range(10) for s in range(20)],
        ), "an epoch's steps have the losses of other epochs': correlation 1.00",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_evidence_to_the_letter(name):
    given, evidence = EVIDENCE[name]
    found = fn.train.diagnose(given)
    assert found.name == name
    if evidence is None:
        assert str(found) == "healthy: nothing to mend in the curves"
    else:
        assert str(found).splitlines()[0] == f"{name}: {evidence}; {REMEDIES[name]}"
    assert set(EVIDENCE) == {"healthy", *REMEDIES}


OTHER_SIGHTS = {
    "what was learned is lost": (
        curves([1.5, 0.2, 0.1, *[0.9] * 27], [1.4, 0.2, 0.1, *[0.9] * 27], classes=3),
        "learning rate too high: loss 0.1 at best, 0.9 after that",
    ),
    "a burst": (
        curves([70.0, 9.0, *[0.5] * 28], [900.0] * 30, [0.5, *[0.85] * 29], [0.5] * 30),
        "learning rate too high: loss 2.3 at first, 70 soon after; it did not recover",
    ),
    "strong dropout": (
        curves(
            2 * (9 - 0.2 * T), 2.3 - 0.03 * T, 0.1 + 0.01 * T, 0.1 + 0.028 * T, first=20.0,
        ), "underfit: 37 % right in training, 86 % without it",
    ),
    "a plateau of uneven classes": (
        curves([2.1, *[1.85] * 11, *FALL[2:20]], (), [0.4] * 12 + [0.9] * 18),
        "slow start: loss 1.85 for 12 epochs, then down to 0.0569",
    ),
    "a change of a thousandth": (
        curves(2.4 - 1e-4 * T, 2.5 - 1e-4 * T, [0.1] * 30, [0.1] * 30),
        "not learning: loss 2.4 in the first epoch, 2.397 in the last",
    ),
    "weights that decay to nothing": (
        curves([1.0, *[2.29] * 29], (), [0.8, *[0.1] * 29]),
        "underfit: 10 % right, in training too",
    ),
}  # fmt: skip


FLAT = curves(2.2 + 0 * T, 2.2 + 0 * T, 0.2 + 0 * T, 0.2 + 0 * T)
FACTS = {
    "weights where they were": (
        {"moved": {"w": [1e-8, 2e-8, 3e-8, 4e-8, 5e-8]}},
        "not learning: loss 2.2 in the first epoch, 2.2 in the last; weights moved by 5e-08 of "
        "their size",
    ),
    "weights near where they were": (
        {"moved": {"w": [1e-3, 1e-3, 2e-3, 4e-3, 8e-3], "v": [1e-3, 1e-3, 2e-3, 4e-3, 0.02]}},
        "learning rate too low: loss 2.2 after an epoch, 2.2 at last; weights moved by 2 % of "
        "their size",
    ),
    "weights that have come far": (
        {"moved": {"w": [0.2, 0.3, 0.5, 0.8, 1.2]}}, "underfit: 20 % right, in training too",
    ),
    "steps as large as the weights": (
        {"moved": {"w": [9.0] * 5}, "params": {"samples": 700, "batch_size": 32}},
        "learning rate too high: the first epoch moved weights by 9 times their size",
    ),
    "as far in many steps": (
        {"moved": {"w": [9.0] * 5}, "params": {"samples": 70000, "batch_size": 32}},
        "underfit: 20 % right, in training too",
    ),
    "a distance of long ago": ({"moved": {"w": [1e-3]}}, "not learning: loss 2.2 in the first"),
    "small weights": (
        {"moved": {"w": [0.2, 0.3, 0.5, 0.8, 1.2]}, "gains": {"w": 0.2, "v": 0.1}},
        "slow start: weights began with a gain of 0.2, and the loss is high for 30 epochs",
    ),
    "sound weights": (
        {"moved": {"w": [0.2, 0.3, 0.5, 0.8, 1.2]}, "gains": {"w": 1.4, "v": 0.1}},
        "underfit: 20 % right, in training too",
    ),
    "probabilities": (
        {"moved": {"w": [0.2] * 5}, "params": {"probabilities": 1}},
        "softmax before the loss: the model puts out probabilities, and its loss takes a softmax "
        "of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_facts_that_fit_recorded(name):
    facts, told = FACTS[name]
    given = curves(FLAT.loss, FLAT.val_loss, FLAT.accuracy, FLAT.val_accuracy, **facts)
    assert str(fn.train.diagnose(given)).splitlines()[0].startswith(told)


def test_facts_that_rule_a_problem_out():
    alike = [(e, 1 + math.sin(s) + 0.01 * e) for e in range(10) for s in range(20)]
    good = (FALL, FALL, 1 - FALL / 3, 1 - FALL / 3)
    assert (
        fn.train.diagnose(curves(*good, steps=alike, params={"shuffle": 0})).name == "not shuffled"
    )
    assert fn.train.diagnose(curves(*good, steps=alike, params={"shuffle": 1})).name == "healthy"
    floor, right = 1.5 + FALL / 20, 0.97 + 0 * T
    logits = curves(floor, floor, right, right, first=2.3, params={"probabilities": 0})
    assert fn.train.diagnose(logits).name == "healthy"


def test_a_model_that_does_not_fit_for_another_reason_is_not_called_underfit():
    facts, _ = FACTS["steps as large as the weights"]
    given = curves(FLAT.loss, FLAT.val_loss, FLAT.accuracy, FLAT.val_accuracy, **facts)
    assert [p.name for p in fn.train.diagnose(given).problems] == ["learning rate too high"]


@pytest.mark.parametrize("name", OTHER_SIGHTS)
def test_other_sights_of_a_problem(name):
    given, told = OTHER_SIGHTS[name]
    assert str(fn.train.diagnose(given)).splitlines()[0].startswith(f"{told};")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 6, 8, 30])
def test_any_curves_have_a_diagnosis(epochs):
    rng = np.random.default_rng(epochs)
    zeros, ones = np.zeros(epochs), np.ones(epochs)
    for k in range(24):
        noise = rng.exponential(size=epochs) * 10.0 ** rng.integers(-9, 20)
        down = np.maximum(np.linspace(1, -0.3, epochs), 0.0)
        loss, val = (rng.choice([zeros, ones, noise, down, -noise]) for _ in range(2))
        right = rng.random(epochs) if k % 3 else ()
        steps = [(e, float(v)) for e in range(epochs) for v in rng.random(12)]
        given = curves(
            loss, val if k % 2 else (), right, right if k % 2 else (), classes=(0, 2, 9)[k % 3],
            val_samples=(0, 9, 400)[k // 8], first=0.5, steps=steps,
        )  # fmt: skip
        assert str(fn.train.diagnose(given))


def test_steps_are_alike_only_if_their_order_is():
    rng = np.random.default_rng(0)
    epochs = [np.exp(rng.normal(size=22) - 0.1 * e) for e in range(30)]
    assert abs(likeness(epochs)[1]) < 4
    hard = rng.normal(size=22)
    alike, errors = likeness([e * np.exp(0.3 * hard) for e in epochs])
    assert alike == pytest.approx(0.09 / 1.09, abs=0.05)
    assert errors > 5
    small = [np.append(e[:-1], 0.1) for e in epochs]  # the last step has fewer samples
    assert abs(likeness(small)[1]) < 4
    assert likeness(epochs[:3]) == likeness([e[:7] for e in epochs]) == (0.0, 0.0)


def test_losses_without_classes():
    overfit = curves(FALL, 0.5 + 0.05 * T, classes=0, val_samples=0)
    assert fn.train.diagnose(overfit).problems[0].evidence == (
        "validation loss 0.5 at best, 1.85 at last, training loss 0.0502"
    )
    flat = curves(3 - FALL / 4, classes=0, first=3.0)
    assert fn.train.diagnose(flat).name in ("not converged", "underfit")
    assert fn.train.diagnose(curves(FALL, FALL, classes=0)).name == "healthy"


def test_nothing_to_diagnose():
    with pytest.raises(ValueError, match=r".") as error:
        fn.train.diagnose(fn.train.History())
    assert str(error.value) == "diagnose: expected the logs of at least one epoch, got none"


@pytest.mark.usefixtures("elsewhere")
def test_the_command_reads_a_run_folder(tmp_path):
    run("train", "digits", "-q", "-o", "good", "--set", "train.monitor=true")
    assert run("diagnose", "good").stdout == "healthy: nothing to mend in the curves\n"
    run("train", "digits", "-q", "-o", "low", "--set", "optim.lr=1e-6", "--set", "train.epochs=12")
    found = json.loads(run("diagnose", "low", "--json").stdout)
    assert found["name"] == "learning rate too low"
    assert found["problems"][0]["remedy"] == REMEDIES["learning rate too low"]
    bad = ["--set", "optim.name=sgd", "--set", "optim.lr=1e30"]
    run("train", "digits", "-q", "-o", "nan", *bad, code=1)
    assert run("diagnose", "nan").stdout.startswith("diverged: epoch 1, ")
    result = run("diagnose", "nowhere", code=2)
    assert result.stderr == "error: nowhere: expected a run folder, found no such folder\n"
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "metrics.jsonl").write_text('{"epoch": 0}\n')
    result = run("diagnose", "odd", code=2)
    assert result.stderr == "error: odd: expected the metrics of a run, got KeyError('split')\n"


@pytest.mark.usefixtures("elsewhere")
def test_a_resumed_run_keeps_its_first_loss():
    small = ["--set", "model.hidden=[8]", "--set", "train.epochs=2"]
    run("train", "digits", "-q", "-o", "out", *small)
    first = json.loads(Path("out/fit.json").read_text())["first_loss"]
    run("train", "-q", "--resume", "out", "--set", "train.epochs=4")
    assert json.loads(Path("out/fit.json").read_text())["first_loss"] == first
