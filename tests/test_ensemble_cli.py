"""fastnn train --ensemble: members as plain runs, one model of all, going on, reports."""

import json
import os
import tomllib

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import run
from fastnn.train.files import read_tensors

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ["-q", "--set", "model.hidden=[16]", "--set", "train.epochs=3"]


def weights(path):
    tensors, _ = read_tensors(path)
    return {k: v.numpy().tobytes() for k, v in tensors.items() if isinstance(v, fn.Tensor)}


def test_an_ensemble_averages_runs_of_their_own():
    result = json.loads(
        run("train", "digits", "--ensemble", 3, "-o", "out", "--json", *SMALL).stdout
    )
    assert sorted(os.listdir("out")) == [
        "best.safetensors", "config.toml", "env.json", "loss.png", "member-1", "member-2",
        "member-3", "metrics.jsonl",
    ]  # fmt: skip
    assert result["run"] == "out"
    assert [m["run"] for m in result["members"]] == [f"out/member-{i}" for i in (1, 2, 3)]
    with open("out/member-2/config.toml", "rb") as file:
        config = tomllib.load(file)
    assert (config["train"]["ensemble"], config["train"]["seed"], config["data"]["seed"]) == (
        1,
        1,
        0,
    )
    # A member is the run of its seed, on the same split.
    run("train", "digits", "-o", "alone", "--seed", 1, "--set", "data.seed=0", *SMALL)
    assert weights("out/member-2/last.safetensors") == weights("alone/last.safetensors")
    # What is predicted is the mean of what the members predict.
    run("predict", "out", "digits", "-o", "p.csv")
    table = np.genfromtxt("p.csv", delimiter=",", skip_header=1)[:, 1:]
    parts = []
    for i in (1, 2, 3):
        run("predict", f"out/member-{i}", "digits", "-o", f"{i}.csv")
        parts.append(np.genfromtxt(f"{i}.csv", delimiter=",", skip_header=1)[:, 1:])
    np.testing.assert_allclose(table, np.mean(parts, axis=0), atol=2e-6)
    # And the test part is measured with it.
    digits = fn.data.load_digits()
    _, test = fn.data.stratified_split(digits.y, 0.2, 0)
    assert (table[test].argmax(1) == digits.y[test]).mean() == pytest.approx(
        result["test_accuracy"]
    )


def test_the_text_and_going_on():
    out = run("train", "digits", "--ensemble", 2, "-o", "out", *SMALL).stdout
    assert "samples (loss " in out
    assert ", with the averaged probabilities of 2 models; alone they have " in out
    run("train", "--resume", "out", "--ensemble", 3, "-q", "--set", "train.epochs=4")
    for i in (1, 2, 3):  # those that were done go on, too
        with open(f"out/member-{i}/metrics.jsonl") as file:
            epochs = [row["epoch"] for row in map(json.loads, file) if row["split"] == "val"]
        assert epochs == [0, 1, 2, 3]
    assert run("diagnose", "out").stdout.startswith("member-1: ")
    facts = json.loads(run("diagnose", "out", "--json").stdout)
    assert list(facts) == ["member-1", "member-2", "member-3"]
    assert run("report", "out").stdout == "out/report.html\n"
    with open("out/report.html") as file:
        page = file.read()
    for text in ("member-3", "<h2>Members</h2>", "Confusion matrix", "models"):
        assert text in page, text


def test_an_interrupted_ensemble_goes_on_where_it_was(monkeypatch):
    fit, fits = fn.Trainer.fit, []

    def interrupted(trainer, *args, **kwargs):
        fits.append(trainer)
        if len(fits) == 2:
            kwargs["epochs"] = 1
            fit(trainer, *args, **kwargs)
            raise KeyboardInterrupt
        return fit(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fn.Trainer, "fit", interrupted)
        result = run("train", "digits", "--ensemble", 3, "-o", "out", *SMALL, code=130)
    assert result.stderr == "saved; go on with: fastnn train --resume out\ninterrupted\n"
    message = (
        "error: out: expected an ensemble of 3 models, found that only 2 were begun or trained; "
        "go on with: fastnn train --resume out\n"
    )
    assert run("predict", "out", "digits", code=2).stderr == message
    assert run("report", "out", code=2).stderr == message
    run("train", "--resume", "out", "-q")
    run("train", "digits", "--ensemble", 3, "-o", "whole", *SMALL)
    assert weights("out/best.safetensors") == weights("whole/best.safetensors")


def test_errors():
    run("train", "digits", "-o", "one", *SMALL)
    result = run("train", "--resume", "one", "--ensemble", 2, "-q", code=2)
    assert result.stderr == (
        "error: one: expected the folder of an ensemble, found that of a single run\n"
    )
    result = run("train", "digits", "--ensemble", 0, code=2)
    assert result.stderr == (
        "error: command line: train.ensemble: input should be greater than or equal to 1, got 0\n"
    )
