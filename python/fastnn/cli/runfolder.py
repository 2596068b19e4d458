"""The run folder: configuration, metrics, best and last checkpoint, environment, plot.

Checkpoints are written at most every two seconds, and at the end, after Ctrl-C and after an error;
the best model is kept in memory in between. best is always written before last, so that last never
speaks of a best that is not there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np

from fastnn import data
from fastnn.data import Pipeline
from fastnn.system import info
from fastnn.train.callbacks import Best, Logs, averaged
from fastnn.train.checkpoint import read_model, write_model
from fastnn.train.files import CheckpointError, write_atomically
from fastnn.train.history import History
from fastnn.train.last import LastCheckpoints, older_ones
from fastnn.train.loggers import JSONLogger
from fastnn.train.trainer import Trainer

__all__ = [
    "RunFolder",
    "check_folder",
    "fingerprint",
    "load_like",
    "make_folder",
    "pack",
    "read_facts",
    "read_metrics",
    "save_plot",
    "transform",
    "unpack",
]

_FLUSH_SECONDS = 2.0
_ROWS = 4096  # that are float64 at a time
_PIPELINE = "preprocessing"  # its name in a checkpoint
_OF_THE_START = ("first_loss", "gains", "moved")  # facts that a training which goes on keeps
_PACKAGES = ("numpy", "safetensors", "scikit-learn", "pyarrow", "pydantic", "matplotlib")


def make_folder(path: str | None, name: str) -> str:
    """Make the run folder: the one given, which may be there if it is empty, or a new one.

    Raises:
        ValueError: If there is something in it.
    """
    if path is not None:
        if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
            raise ValueError(
                f"{path}: expected a new or empty folder for the run, found something there"
            )
        os.makedirs(path, exist_ok=True)
        return path
    base = os.path.join("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    for i in range(1, 1000):
        path = base if i == 1 else f"{base}-{i}"
        try:
            os.makedirs(path)
        except FileExistsError:
            continue
        return path
    raise ValueError(f"{base}: expected a free name for the run folder, found none")


def check_folder(path: str) -> None:
    """Refuse what is no folder, before its files are missed one by one.

    Raises:
        FileNotFoundError: If there is no folder there.

    Example:
        >>> from fastnn.cli.runfolder import check_folder
        >>> check_folder("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: nowhere: expected a run folder, found no such folder
    """
    if not os.path.isdir(path):
        found = "a file" if os.path.exists(path) else "no such folder"
        raise FileNotFoundError(f"{path}: expected a run folder, found {found}")


def environment() -> dict[str, Any]:
    """What the run ran on."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {**info(), "packages": versions, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def read_metrics(path: str) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that a crash cut off is left out."""
    rows: list[dict[str, Any]] = []
    if not os.path.exists(path):
        return rows
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def save_plot(
    folder: str,
    runs: dict[str, list[dict[str, Any]]],
    result: dict[str, Any],
    best_epoch: int = -1,
) -> bool:
    """Draw the curves of a run, or of several, into loss.png; whether there is a matplotlib."""
    try:
        from fastnn.train.report import curves_figure, save_png
    except ModuleNotFoundError:
        print("no loss.png: it needs matplotlib", file=sys.stderr)
        return False
    title = os.path.basename(os.path.normpath(folder))
    if "test_accuracy" in result:
        title += f": test accuracy {100 * result['test_accuracy']:.2f} %"
    figure = curves_figure(runs, title=title, best_epoch=best_epoch)
    save_png(figure, os.path.join(folder, "loss.png"))
    return True


def read_facts(folder: str) -> dict[str, Any]:
    """What fit.json in a run folder says; nothing if there is none."""
    try:
        with open(os.path.join(folder, "fit.json"), encoding="utf-8") as file:
            facts = json.load(file)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


class RunFolder(JSONLogger):
    """Keeps the folder up to date during training.

    Args:
        path: The folder.
        extra: What predict needs besides the model: classes, features, preprocessing.
        monitor: What the best model is best in.
        save_last: How many of the last checkpoints to keep.
    """

    def __init__(self, path: str, extra: dict[str, Any], monitor: str, save_last: int = 1) -> None:
        super().__init__(os.path.join(path, "metrics.jsonl"))
        self.folder, self.extra = path, extra
        self.last = LastCheckpoints(self.file("last.safetensors"), save_last)
        self.best = Best(monitor)
        self.best_epoch = -1
        self._best_state: dict[str, Any] | None = None
        self._flushed = time.monotonic()

    def file(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.folder, name)

    def begin(self, config: str) -> None:
        """Write what is known before training."""
        write_atomically(self.file("config.toml"), config.encode())
        self.write_json("env.json", environment())

    def resume(self, trainer: Trainer) -> None:
        """Continue with the last checkpoint that is whole; metrics of later epochs are forgotten.

        Raises:
            FileNotFoundError: If there is none.
            CheckpointError: If none can be used.
            ValueError: If it is of other data.
        """
        self._check_data()
        kept, problems = self.last.load(trainer)
        for problem in problems:
            print(f"warning: {problem}", file=sys.stderr)
        best, best_epoch = kept.get("best"), kept.get("best_epoch")
        if not isinstance(best, (float, NoneType)) or not isinstance(best_epoch, int):
            raise CheckpointError(f"{self.last.path}: expected the best value and its epoch")
        rows = [r for r in read_metrics(self.path) if r["split"] != "test"]
        self.best.value, self.best_epoch = self._best_of(rows, best, best_epoch)
        self.write_rows([row for row in rows if row["epoch"] < trainer.epoch])

    def _check_data(self) -> None:
        """Refuse to go on with other data than before."""
        for path in (self.last.path, *reversed(older_ones(self.last.path))):
            with contextlib.suppress(CheckpointError, FileNotFoundError):
                data = read_model(path)[1].get("data")
                if data != self.extra["data"]:
                    raise ValueError(
                        f"{self.folder}: expected the data of that run, {data}, got "
                        f"{self.extra['data']}"
                    )
                return

    def _best_of(
        self, rows: list[dict[str, Any]], value: float | None, epoch: int
    ) -> tuple[float | None, int]:
        """The value and epoch of the best model: its file may be newer than what training had."""
        try:
            kept = read_model(self.file("best.safetensors"))[1].get("epoch")
        except (CheckpointError, FileNotFoundError) as error:
            if epoch >= 0:
                print(f"warning: {error}; the best is looked for anew", file=sys.stderr)
            return None, -1
        split, _, name = self.best.monitor.rpartition("_")
        for row in rows:
            if row["epoch"] == kept != epoch and row["split"] == (split or "train"):
                return float(row[name]), row["epoch"]
        return value, epoch

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Log, remember the best, and write it when it is time."""
        super().on_epoch_end(epoch, logs)
        if self.best.improves(logs[self.best.monitor]):
            self.best_epoch = epoch
            with averaged(self.trainer):
                state = self.trainer.model.state_dict()
                self._best_state = {name: value.clone() for name, value in state.items()}
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush(self.trainer)

    def flush(self, trainer: Trainer) -> None:
        """Write the checkpoints now."""
        if self._best_state is not None:
            extra = {**self.extra, "epoch": self.best_epoch}
            write_model(self.file("best.safetensors"), trainer.model, self._best_state, extra)
            self._best_state = None
        best = {"best": self.best.value, "best_epoch": self.best_epoch}
        self.last.save(trainer, {**self.extra, **best})
        self._write_facts(trainer.history)
        self._flushed = time.monotonic()

    def _write_facts(self, history: History) -> None:
        """Write what a diagnosis needs besides the metrics."""
        facts = {
            "params": history.params,
            "first_loss": history.first_loss,
            "gains": history.gains,
            "moved": history.moved,
            "error": history.error,
        }
        if history.first_loss is None:  # the training went on
            before = read_facts(self.folder)
            facts |= {name: before[name] for name in _OF_THE_START if name in before}
        self.write_json("fit.json", facts)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file."""
        write_atomically(self.file(name), (json.dumps(value, indent=2) + "\n").encode())

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Write the metrics anew."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.path, text.encode())

    def log_test(self, epoch: int, step: int, result: dict[str, float]) -> None:
        """Add the result on the test part to the metrics."""
        row = {"epoch": epoch, "step": step, "split": "test", **result}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def fingerprint(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What tells one data set from another.

    Example:
        >>> import numpy as np
        >>> from fastnn.cli.runfolder import fingerprint
        >>> fingerprint(np.zeros((2, 3), np.float32), np.zeros(2, np.int64))["samples"]
        2
    """
    import zlib

    checksum = zlib.crc32(np.ascontiguousarray(x).data)
    checksum = zlib.crc32(np.ascontiguousarray(y).data, checksum)
    return {"samples": len(x), "features": int(x.shape[1]), "crc32": checksum}


def pack(pipeline: Pipeline) -> dict[str, Any]:
    """A fitted pipeline as what a checkpoint keeps: its steps, and an array for each number.

    Example:
        >>> from fastnn.cli.runfolder import pack, unpack
        >>> from fastnn.data import MinMaxScaler, Pipeline
        >>> kept = pack(Pipeline(MinMaxScaler()).fit([[1.0], [3.0]]))
        >>> sorted(kept)
        ['preprocessing', 'preprocessing.0.data_max_', 'preprocessing.0.data_min_']
        >>> unpack(kept).transform([[2.0]])
        array([[0.5]])
    """
    arrays = {f"{_PIPELINE}.{name}": value for name, value in pipeline.state_dict().items()}
    return {_PIPELINE: pipeline.describe(), **arrays}


def transform(pipeline: Pipeline, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a model takes: float32; in parts, since all of x in float64 may not fit.

    Example:
        >>> import numpy as np
        >>> from fastnn.cli.runfolder import transform
        >>> from fastnn.data import MinMaxScaler, Pipeline
        >>> transform(Pipeline(MinMaxScaler()).fit([[1.0], [3.0]]), np.array([[2], [3]]))
        array([[0.5],
               [1. ]], dtype=float32)
    """
    parts = (x[i : i + _ROWS] for i in range(0, len(x), _ROWS))
    return np.concatenate([pipeline.transform(part).astype(np.float32) for part in parts])


def load_like(source: str, extra: Mapping[str, Any], pipeline: Pipeline) -> data.Dataset:
    """Data with the columns and categories of training.

    Raises:
        ValueError: If they have others.
    """
    categories = extra.get("categories", {})
    dataset = data.load(
        source,
        extra["label"],
        tuple(extra["features"]),
        missing=pipeline.takes_missing,
        drop=extra.get("drop", ()),
        categories=categories,
    )
    if sorted(dataset.categories) != sorted(categories):
        raise ValueError(f"{source}: expected a table with columns of categories, got numbers")
    return dataset


def unpack(extra: dict[str, Any]) -> Pipeline:
    """The pipeline that :func:`pack` packed.

    Raises:
        KeyError: If there is none.
        ValueError: If it is not one.
    """
    prefix = f"{_PIPELINE}."
    state = {k.removeprefix(prefix): v for k, v in extra.items() if k.startswith(prefix)}
    return Pipeline.build(extra[_PIPELINE], state)
