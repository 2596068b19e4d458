"""Callbacks that write down the logs of each epoch."""

from __future__ import annotations

import json
import os
from typing import Any

from fastnn.train.callbacks import Callback, Logs

__all__ = ["CSVLogger", "JSONLogger", "TensorBoard"]


class CSVLogger(Callback):
    """Write the logs of each epoch as a line of a CSV.

    Args:
        path: The file.
        append: Whether to go on with a file that is there.

    Example:
        >>> import fastnn as fn
        >>> logger = fn.train.CSVLogger("log.csv")
    """

    def __init__(self, path: str, append: bool = False) -> None:
        self.path, self.append = path, append
        self._names: list[str] = []

    def on_train_begin(self) -> None:
        """Begin the file."""
        self._names = []
        if self.append and os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self._names = file.readline().strip().split(",")[1:]
        else:
            open(self.path, "w", encoding="utf-8").close()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            if not self._names:
                self._names = list(logs)
                file.write(",".join(["epoch", *self._names]) + "\n")
            cells = [repr(logs[name]) if name in logs else "" for name in self._names]
            file.write(",".join([str(epoch), *cells]) + "\n")


class JSONLogger(Callback):
    """Write two JSON lines per epoch, one for the training part and one for the validation part.

    Each has epoch, step, split, loss, accuracy; that of the training part also lr, seconds and
    samples_per_s.

    Args:
        path: The file; lines are appended.

    Example:
        >>> import fastnn as fn
        >>> logger = fn.train.JSONLogger("metrics.jsonl")
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the lines."""
        base: dict[str, Any] = {"epoch": epoch, "step": self.trainer.optimizer.step_count}
        train = {k: v for k, v in logs.items() if not k.startswith("val_")}
        lines = [{**base, "split": "train", **train}]
        validation = {k[4:]: v for k, v in logs.items() if k.startswith("val_")}
        if validation:
            lines.append({**base, "split": "val", **validation})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


class TensorBoard(Callback):
    """Write the logs for TensorBoard: scalars by epoch, and histograms of the weights.

    Needs tensorboardX: ``pip install 'fastnn[tensorboard]'``.

    Args:
        log_dir: The folder; training and validation get one each in it, so that each quantity is
            one chart with two curves.
        histogram_freq: Epochs between histograms of the weights; 0 for none.
        update_freq: ``"epoch"``, or ``"batch"`` to write the loss of each step too, as the mean
            over the epoch so far.

    Raises:
        ModuleNotFoundError: When training begins, if tensorboardX is not installed.
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> board = fn.train.TensorBoard("logs", histogram_freq=5)
    """

    def __init__(
        self, log_dir: str = "logs", histogram_freq: int = 0, update_freq: str = "epoch"
    ) -> None:
        if histogram_freq < 0:
            raise ValueError(f"TensorBoard: expected histogram_freq >= 0, got {histogram_freq}")
        if update_freq not in ("epoch", "batch"):
            raise ValueError(
                f"TensorBoard: expected update_freq 'epoch' or 'batch', got {update_freq!r}"
            )
        self.log_dir, self.histogram_freq = log_dir, histogram_freq
        self.update_freq = update_freq
        self._writers: dict[str, Any] = {}

    def on_train_begin(self) -> None:
        """Open the files."""
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "TensorBoard: expected tensorboardX to be installed; install it with: pip install "
                "'fastnn[tensorboard]'"
            ) from None
        names = ("train", "validation")
        self._writers = {n: SummaryWriter(os.path.join(self.log_dir, n)) for n in names}

    def teardown(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def wants(self, hook: str) -> bool:
        """Whether it has to be told of each step."""
        return hook != "on_train_batch_end" or self.update_freq == "batch"

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Write what is known of the epoch so far."""
        if self.update_freq == "batch":
            step = self.trainer.optimizer.step_count
            for name, value in logs.items():
                self._writers["train"].add_scalar(f"batch_{name}", value, step)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the scalars, and the histograms when it is time."""
        for name, value in logs.items():
            part = "validation" if name.startswith("val_") else "train"
            scalar = f"epoch_{name.removeprefix('val_')}"
            self._writers[part].add_scalar(scalar, value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name, tensor in self.trainer.model.state_dict().items():
                weights = tensor.to("cpu").numpy()
                self._writers["train"].add_histogram(name.replace(".", "/"), weights, epoch)
        for writer in self._writers.values():
            writer.flush()
