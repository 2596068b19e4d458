"""Pages about runs: what is on them, that they need no other file, and what is missing is said."""

import html.parser
import json
import os
import pathlib
import shutil

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import SMALL, run
from fastnn.cli import report as cli_report
from fastnn.cli import runfolder as cli
from fastnn.train import report

pytestmark = pytest.mark.usefixtures("elsewhere")


class Outline(html.parser.HTMLParser):
    """Headings, charts by their description, and whatever a browser would fetch or run."""

    def __init__(self, path):
        super().__init__()
        self.heads, self.charts, self.fetched, self.texts, self._in = [], [], [], [], None
        with open(path, encoding="utf-8") as file:
            self.feed(file.read())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self._in = tag
        if tag == "svg":
            self.charts.append(attributes["aria-label"])
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name, "#")
            if not value.startswith(("#", "data:")):
                self.fetched.append(value)
        if tag == "script":
            self.fetched.append(tag)

    def handle_data(self, data):
        if self._in == "h2" and data.strip():
            self.heads.append(data)
        if data.strip():
            self.texts.append(data.strip())
        self._in = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs on digits, made once."""
    folder = tmp_path_factory.mktemp("runs")
    here = os.getcwd()
    os.chdir(folder)
    for name, rate in (("a", "1e-3"), ("b", "1e-2")):
        settings = ["--set", f"optim.lr={rate}", "--set", "train.monitor=true"]
        run("train", "digits", "-q", "-o", name, *SMALL, *settings)
    os.chdir(here)
    return folder


def test_a_page_about_a_run_holds_all_it_shows(runs):
    result = run("report", str(runs / "a"))
    page = Outline(runs / "a" / "report.html")
    assert result.stdout == f"{runs}/a/report.html\n"
    assert page.heads == [
        "Diagnosis", "Loss and accuracy", "Learning rate", "Steps", "Weights",
        "Activations and gradients", "Predictions for the test part", "Configuration",
        "Environment",
    ]  # fmt: skip
    assert page.charts == [
        "Loss and accuracy by epoch, of training and validation",
        "Learning rate by epoch",
        "Loss and gradient norm",
        "How far each matrix of weights has moved, by epoch",
        "Norm of each parameter",
        "Histogram of each matrix of weights",
        "Histograms of outputs and gradients by layer",
        "Confusion matrix",
        "The worst mistakes",
    ]
    assert page.fetched == []
    assert {"train.epochs", "3", "packages.numpy"} <= set(page.texts)


def test_the_page_and_the_run_agree(runs):
    run("report", str(runs / "a"), "-o", "page.html")
    with open(runs / "a" / "metrics.jsonl") as file:
        test = json.loads(file.readlines()[-1])
    texts = Outline("page.html").texts
    assert f"{100 * test['accuracy']:.2f} %" in texts
    wrong = round((1 - test["accuracy"]) * 359)
    assert f"{wrong} of 359 are wrong; the worst are these." in texts


def test_other_data_than_those_of_the_run_are_not_shown(runs):
    shutil.copytree(runs / "a", "copy")
    with open("copy/config.toml") as file:
        text = file.read()
    with open("copy/config.toml", "w") as file:
        file.write(text.replace('source = "digits"', 'source = "gone.csv"'))
    run("report", "copy")
    texts = Outline("copy/report.html").texts
    assert any(text.startswith("Not shown: gone.csv: ") for text in texts), texts


def test_a_run_without_a_model_says_so(runs):
    shutil.copytree(runs / "a", "copy")
    os.remove("copy/best.safetensors")
    run("report", "copy")
    page = Outline("copy/report.html")
    assert "There is no best.safetensors: no epoch had a finite loss." in page.texts


def test_a_run_that_diverged_in_its_first_epoch_has_a_page_and_a_diagnosis():
    diverges = ["--set", "optim.name=sgd", "--set", "optim.lr=1e30"]
    error = run("train", "digits", "-q", "-o", "bad", *SMALL, *diverges, code=1).stderr
    assert error.endswith("told by: fastnn diagnose bad\n")
    problem = "loss: expected a finite value, got NaN or infinity; "
    told = run("diagnose", "bad").stdout
    assert told.startswith("diverged: epoch 1, step ")
    assert problem + fn.train.diagnosis.REMEDIES["diverged"] in told
    run("report", "bad")
    page = Outline("bad/report.html")
    assert page.heads == ["Diagnosis", "Model", "Configuration", "Environment"]
    assert told.strip() in page.texts
    assert page.charts == []
    assert run("predict", "bad", "digits", code=2).stderr == (
        "error: bad: expected a run folder with a model, found no best.safetensors in it; what may "
        "help is told by: fastnn diagnose bad\n"
    )


def test_a_run_whose_model_has_blocks(runs):
    shutil.copytree(runs / "a", "copy")
    model, extra = fn.train.checkpoint.read_model("copy/best.safetensors")
    body = fn.nn.Sequential(fn.nn.Linear(64, 8), fn.nn.ReLU(), fn.nn.Linear(8, 64))
    blocks = fn.nn.Sequential(fn.nn.Residual(body, activation="relu"), *model)
    fn.train.save_model("copy/best.safetensors", blocks, extra)
    run("report", "copy")
    page = Outline("copy/report.html")
    assert "Activations and gradients" in page.heads
    assert f"{blocks.num_parameters():,}" in page.texts
    run("predict", "copy", "digits", "-o", "p.csv")
    digits = fn.data.load("digits")
    x = cli.transform(cli.unpack(extra), digits.x)
    with open("p.csv") as file:
        predicted = [int(line.split(",")[0]) for line in file.readlines()[1:]]
    assert predicted == blocks.predict(x).argmax(1).tolist()


def test_runs_over_each_other(runs):
    result = run("compare", str(runs / "a"), str(runs / "b"), "-o", "both.html")
    page = Outline("both.html")
    assert result.stdout == "both.html\n"
    assert page.heads == ["Results", "Loss and accuracy", "Learning rate", "Settings that differ"]
    assert "optim.lr" in page.texts
    assert "train.epochs" not in page.texts
    assert page.fetched == []


def test_the_same_run_twice_differs_in_nothing(runs):
    run("compare", str(runs / "a"), str(runs / "a"))
    texts = Outline("compare.html").texts
    assert "None: the runs differ by chance or by their data only." in texts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("report", "nowhere"),
            "nowhere: expected a run folder, found no such folder",
        ),
        (("compare", "."), "compare: expected at least 2 run folders, got 1"),
    ],
)
def test_what_is_no_run_is_refused(arguments, message):
    assert run(*arguments, code=2).stderr == f"error: {message}\n"


def test_a_run_without_metrics_is_refused(runs):
    shutil.copytree(runs / "a", "copy")
    os.remove("copy/metrics.jsonl")
    message = "copy: expected metrics.jsonl with at least one epoch, got none"
    assert run("report", "copy", code=2).stderr == f"error: {message}\n"


def test_texts_are_escaped_and_charts_described():
    page = report.Page("<b>", "a & b")
    page.note("<i>", "1 < 2", "warn")
    page.table("t", ["<h>"], [["<c>"]])
    page.figure("f", report.confusion_figure([[1, 0], [0, 1]], ["<x>", "$y$"]), 'a "chart"')
    text = page.html()
    for tag in ("<b>", "<i>", "<h>", "<c>", "<x>"):
        assert tag not in text
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in text
    assert 'aria-label="a &quot;chart&quot;"' in text
    assert "$y$" in text


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_a_weight_that_smooths_nothing_is_refused(weight):
    with pytest.raises(ValueError, match=r"^smooth: expected 0 <= weight < 1, got "):
        report.smooth([1.0], weight)


def test_smoothing_a_constant_leaves_it():
    np.testing.assert_allclose(report.smooth(np.full(50, 3.0), 0.9), 3.0, rtol=1e-12)
    np.testing.assert_array_equal(report.smooth([1.0, 5.0], 0.0), [1.0, 5.0])


def test_figures_of_odd_data():
    report.histogram_figure({"all bad": [np.nan, np.inf], "some": [1.0, np.nan]})
    report.norms_figure({"w": np.nan, "b": 1.0}, label="norm")
    report.images_figure(np.zeros((3, 3, 2, 2)), ["a", "b", "c"])
    rows = [{"epoch": 0, "split": "train", "loss": 0.0}]
    for figure in (
        report.curves_figure({"r": rows}),
        report.curves_figure({}),
        report.quantity_figure({"r": rows}, ["lr", "loss"], label="x", logarithmic=True),
    ):
        report.save_png(figure, "figure.png")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([22.0, 44.0], ["30", "40"]),  # less than a power of ten: each number
        ([0.24, 2.1], ["0.3", "0.5", "1", "2"]),
        ([1e-6, 0.3], ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"]),
    ],
)
def test_numbers_beside_a_logarithmic_axis_have_room(values, labels):
    rows = [{"epoch": e, "split": "train", "x": value} for e, value in enumerate(values)]
    axes = report.quantity_figure({"r": rows}, ["x"], label="x", logarithmic=True).axes[0]
    axes.figure.draw_without_rendering()
    low, high = axes.get_ylim()
    ticks = [
        (at, text.get_text())
        for minor in (False, True)
        for at, text in zip(
            axes.get_yticks(minor=minor), axes.get_yticklabels(minor=minor), strict=True
        )
    ]
    assert [text for at, text in sorted(ticks) if low <= at <= high and text] == labels


def test_rates_far_apart_are_compared_on_a_logarithmic_axis(runs, monkeypatch):
    drawn = {}

    def watched(rows, names, **options):
        drawn.update(options)
        return report.quantity_figure(rows, names, **options)

    monkeypatch.setattr(cli_report, "quantity_figure", watched)
    shutil.copytree(runs / "a", "c")
    metrics = pathlib.Path("c/metrics.jsonl")
    metrics.write_text(metrics.read_text().replace('"lr": 0.001', '"lr": 1e-06'))
    cli_report.compare([str(runs / "a"), str(runs / "b")], "near.html")
    assert drawn["logarithmic"] is False
    cli_report.compare([str(runs / "a"), "c"], "far.html")
    assert drawn["logarithmic"] is True
