"""fastnn report and fastnn compare: pages about runs, made from their folders."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import data, nn
from fastnn.cli import config as configuration
from fastnn.cli.config import Config
from fastnn.cli.diagnose import curves
from fastnn.cli.ensemble import check_whole, members
from fastnn.cli.prepare import split
from fastnn.cli.runfolder import (
    check_folder,
    fingerprint,
    load_like,
    read_facts,
    read_metrics,
    transform,
    unpack,
)
from fastnn.train.checkpoint import read_model
from fastnn.train.metrics import ConfusionMatrix
from fastnn.train.report import (
    Page,
    confusion_figure,
    curves_figure,
    histogram_figure,
    images_figure,
    norms_figure,
    quantity_figure,
    steps_figure,
    write_page,
)

__all__ = ["compare", "report"]

_MISTAKES = 24  # that are shown
_SMOOTHING = 0.6
_HISTOGRAMS = 16  # panels
_LOOKED_AT = 512  # samples
_LINES = 8  # of one chart


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds."""

    folder: str
    config: Config
    rows: list[dict[str, Any]]
    environment: dict[str, Any]

    @classmethod
    def read(cls, folder: str) -> Run:
        """Read it.

        Raises:
            FileNotFoundError: If it is no run folder.
            ValueError: If there are no metrics in it, and no error that says why.
        """
        check_folder(folder)
        config = configuration.load(os.path.join(folder, "config.toml"))
        rows = read_metrics(os.path.join(folder, "metrics.jsonl"))
        if not rows and read_facts(folder).get("error") is None:
            raise ValueError(f"{folder}: expected metrics.jsonl with at least one epoch, got none")
        environment: dict[str, Any] = {}
        path = os.path.join(folder, "env.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                environment = json.load(file)
        return cls(folder, config, rows, environment)

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return os.path.basename(os.path.abspath(self.folder))

    def of(self, part: str) -> list[dict[str, Any]]:
        """The lines of train, val or test."""
        return [row for row in self.rows if row["split"] == part]

    def best_epoch(self) -> int:
        """The epoch of the model that was kept: that of the smallest loss, counted from 0."""
        rows = [r for r in self.of("val") or self.of("train") if np.isfinite(r["loss"])]
        return int(min(rows, key=lambda row: row["loss"])["epoch"]) if rows else -1

    def settings(self) -> dict[str, str]:
        """All settings by section.key, as texts."""
        tree = self.config.model_dump()
        return {
            f"{section}.{key}": str(value)
            for section, values in tree.items()
            for key, value in values.items()
            if value is not None
        }


# ---- one run -----------------------------------------------------------------------------------


def report(folder: str, output: str | None) -> str:
    """Write a page about a run; the path of the page."""
    check_whole(folder)
    parts = [Run.read(member) for member in members(folder)]
    run = Run.read(folder)
    started = run.environment.get("started", "")
    page = Page(
        run.name, f"{run.config.data.source or 'arrays'}, started {started or 'at some time'}"
    )
    _headline(page, run, parts)
    for part in parts or [run]:
        _diagnosis(page, part, f"{part.name}: " if parts else "")
    if parts:
        names = [part.name for part in parts]
        page.table("Members", *_results(names, parts))
        _overlay(page, names, parts)
    elif run.rows:
        _curves(page, run)
    _steps(page, run)
    _moved(page, run)
    best = os.path.join(folder, "best.safetensors")
    if os.path.exists(best):
        model, extra = read_model(best)
        _weights(page, model)
        try:
            dataset, x = _load(run, extra)
        except (OSError, ValueError, KeyError, ModuleNotFoundError) as error:
            page.note("Predictions", f"Not shown: {error}", "warn")
        else:
            _activations(page, model, x, dataset.y)
            _predictions(page, run, model, dataset, x)
    else:
        page.note("Model", "There is no best.safetensors: no epoch had a finite loss.", "fail")
    page.table("Configuration", ["setting", "value"], list(run.settings().items()))
    page.table("Environment", ["what", "value"], _flat(run.environment))
    path = output or os.path.join(folder, "report.html")
    write_page(page, path)
    return path


def _headline(page: Page, run: Run, members: Sequence[Run]) -> None:
    for row in run.of("test"):
        if "accuracy" in row:
            page.tile("test accuracy", f"{100 * row['accuracy']:.2f} %")
        page.tile("test loss", f"{row['loss']:.4f}")
    if members:
        page.tile("models", str(len(members)))
        for row in run.of("val"):
            page.tile("validation loss", f"{row['loss']:.4f}")
        return
    best, train, val = run.best_epoch(), run.of("train"), run.of("val")
    if not train:
        page.tile("epochs trained", "0")
        return
    if val and best >= 0:
        row = next(r for r in val if r["epoch"] == best)
        page.tile("best validation loss", f"{row['loss']:.4f}")
    page.tile("best epoch", f"{best + 1} of {len(train)}")
    page.tile("training time", f"{sum(row.get('seconds', 0.0) for row in train):.2f} s")
    speeds = [row["samples_per_s"] for row in train if "samples_per_s" in row]
    if speeds:
        page.tile("samples per second", f"{np.median(speeds):,.0f}")


def _diagnosis(page: Page, run: Run, whose: str = "") -> None:
    found = fn.train.diagnose(curves(run.folder))
    for problem in found.problems:
        page.note("Diagnosis", f"{whose}{problem}", "warn")
    if not found.problems:
        page.note("Diagnosis", f"{whose}{found}", "pass")


def _curves(page: Page, run: Run) -> None:
    page.figure(
        "Loss and accuracy",
        curves_figure({run.name: run.rows}, best_epoch=run.best_epoch(), weight=_SMOOTHING),
        "Loss and accuracy by epoch, of training and validation",
    )
    page.note("Loss and accuracy", f"Bold: averages with weight {_SMOOTHING}; thin: as measured.")
    page.figure(
        "Learning rate",
        quantity_figure({run.name: run.rows}, ["lr"], label="learning rate"),
        "Learning rate by epoch",
    )


def _steps(page: Page, run: Run) -> None:
    steps = read_metrics(os.path.join(run.folder, "steps.jsonl"))
    if steps:
        page.figure("Steps", steps_figure(steps, ["loss", "grad_norm"]), "Loss and gradient norm")


def _moved(page: Page, run: Run) -> None:
    """How far the weights are from where they began, after 1, 2, 4, ... epochs."""
    moved = dict(list(read_facts(run.folder).get("moved", {}).items())[:_LINES])
    if not any(moved.values()):
        return
    rows = [
        {"epoch": 2**i - 1, "split": "train", **dict(zip(moved, ratios, strict=True))}
        for i, ratios in enumerate(zip(*moved.values(), strict=True))
    ]
    page.figure(
        "Weights",
        quantity_figure({run.name: rows}, list(moved), label="moved / size", logarithmic=True),
        "How far each matrix of weights has moved, by epoch",
    )
    page.note(
        "Weights",
        "How far each matrix is from where it began, as a share of its size, after 1, 2, 4, ... "
        "epochs: a training that learns comes to 0.2 or more.",
    )


def _activations(page: Page, model: nn.Module, x: np.ndarray[Any, Any], y: Any) -> None:
    """What layers put out and which gradients come back, on some samples with the kept weights."""
    some = slice(0, _LOOKED_AT)
    stats = fn.inspect.activation_stats(model, x[some], loss=nn.CrossEntropyLoss(), y=y[some])
    page.figure(
        "Activations and gradients", stats.plot(), "Histograms of outputs and gradients by layer"
    )
    text = f"{len(x[some])} samples, in evaluation, with the weights that were kept."
    page.note("Activations and gradients", text)


def _weights(page: Page, model: nn.Module) -> None:
    state = {name: np.asarray(value) for name, value in model.state_dict().items()}
    norms = {name: float(np.linalg.norm(value)) for name, value in state.items()}
    page.tile("parameters", f"{model.num_parameters():,}")
    page.figure("Weights", norms_figure(norms, label="Euclidean norm"), "Norm of each parameter")
    weights = {name: value for name, value in state.items() if value.ndim > 1}
    if weights:
        page.figure(
            "Weights", histogram_figure(_some(weights)), "Histogram of each matrix of weights"
        )


def _load(run: Run, extra: Mapping[str, Any]) -> tuple[data.Dataset, np.ndarray[Any, Any]]:
    """The data of the run, and what its model takes."""
    pipeline = unpack(dict(extra))
    dataset = load_like(run.config.data.source, extra, pipeline)
    x = transform(pipeline, dataset.x)
    if dataset.y is None or fingerprint(x, dataset.y) != extra["data"]:
        raise ValueError(f"{run.config.data.source}: expected the data of the run, got others")
    return dataset, x


def _predictions(
    page: Page, run: Run, model: nn.Module, dataset: data.Dataset, x: np.ndarray[Any, Any]
) -> None:
    """What the model says of the test part, or of the validation part where there is no test."""
    assert dataset.y is not None
    _, val, test = split(dataset.y, run.config)
    part, name = (test, "test") if len(test) else (val, "validation")
    if not len(part):
        page.note("Predictions", "Not shown: the run kept no samples for a test or validation.")
        return
    probabilities, y = model.predict_proba(x[part]), dataset.y[part]
    confusion = ConfusionMatrix()
    confusion.update(probabilities, y)
    assert confusion.counts is not None
    section = f"Predictions for the {name} part"
    page.figure(section, confusion_figure(confusion.counts, dataset.classes), "Confusion matrix")
    _mistakes(page, section, dataset, part, probabilities)


def _mistakes(
    page: Page,
    section: str,
    dataset: data.Dataset,
    part: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any],
) -> None:
    """The wrong answers that gave the truth the smallest probability, worst first."""
    assert dataset.y is not None
    y, said = dataset.y[part], probabilities.argmax(1)
    truth = probabilities[np.arange(len(y)), y]
    wrong = np.flatnonzero(said != y)
    worst = wrong[np.argsort(truth[wrong], kind="stable")][:_MISTAKES]
    page.note(section, f"{len(wrong):,} of {len(y):,} are wrong; the worst are these.")
    if not len(worst):
        return
    names = dataset.classes
    if dataset.shape and dataset.shape[0] in (1, 3):
        captions = [f"{names[y[i]]}, said {names[said[i]]}" for i in worst]
        page.figure(
            section, images_figure(dataset.images[part[worst]], captions), "The worst mistakes"
        )
    rows = [
        [str(part[i]), names[y[i]], names[said[i]], f"{p.max():.3f}", f"{truth[i]:.3g}"]
        for i, p in zip(worst, probabilities[worst], strict=True)
    ]  # fmt: skip
    heads = ["sample", "truth", "prediction", "its probability", "that of the truth"]
    page.table(section, heads, rows)


# ---- several runs ------------------------------------------------------------------------------


def compare(folders: Sequence[str], output: str) -> str:
    """Write a page with the curves of several runs over each other, and where they differ."""
    if len(folders) < 2:
        raise ValueError(f"compare: expected at least 2 run folders, got {len(folders)}")
    runs = [Run.read(folder) for folder in folders]
    names = _distinct([run.name for run in runs], folders)
    page = Page(f"{len(runs)} runs", ", ".join(names))
    page.table("Results", *_results(names, runs))
    _overlay(page, names, runs)
    settings = [run.settings() for run in runs]
    keys = {key: None for one in settings for key in one}
    differing = [
        [key, *(one.get(key, "-") for one in settings)]
        for key in keys
        if len({one.get(key) for one in settings}) > 1
    ]
    if differing:
        page.table("Settings that differ", ["setting", *names], differing)
    else:
        page.note("Settings that differ", "None: the runs differ by chance or by their data only.")
    write_page(page, output)
    return output


def _overlay(page: Page, names: Sequence[str], runs: Sequence[Run]) -> None:
    """The curves of several runs over each other."""
    rows = {name: run.rows for name, run in zip(names, runs, strict=True)}
    page.figure(
        "Loss and accuracy",
        curves_figure(rows, weight=_SMOOTHING),
        "Loss and accuracy by epoch of all runs",
    )
    page.note("Loss and accuracy", "Solid: validation; dashed: training.")
    rates = [row["lr"] for run in runs for row in run.of("train") if "lr" in row]
    apart = max(rates, default=0.0) > 30 * min(rates, default=0.0) > 0
    page.figure(
        "Learning rate",
        quantity_figure(rows, ["lr"], label="learning rate", logarithmic=apart),
        "Learning rate by epoch of all runs",
    )


def _results(names: Sequence[str], runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    heads = ["run", "epochs", "best epoch", "validation loss", "validation accuracy",
             "test accuracy", "training time"]  # fmt: skip
    rows = []
    for name, run in zip(names, runs, strict=True):
        best = run.best_epoch()
        val = next((r for r in run.of("val") if r["epoch"] == best), {})
        test = next(iter(run.of("test")), {})
        seconds = sum(row.get("seconds", 0.0) for row in run.of("train"))
        rows.append([
            name, str(len(run.of("train"))), str(best + 1), _number(val.get("loss")),
            _percent(val.get("accuracy")), _percent(test.get("accuracy")), f"{seconds:.2f} s",
        ])  # fmt: skip
    return heads, rows


# ---- how ---------------------------------------------------------------------------------------


def _some(tensors: dict[str, Any]) -> dict[str, Any]:
    return dict(list(tensors.items())[:_HISTOGRAMS])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append([f"{prefix}{key}", "-" if value is None else str(value)])
    return rows


def _distinct(names: list[str], folders: Sequence[str]) -> list[str]:
    return names if len(set(names)) == len(names) else [os.path.normpath(f) for f in folders]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
