"""Callbacks, with Keras' hooks. One that has on_train_batch_end costs a native call per batch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.train.checkpoint import save_model

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["CSVLogger", "Callback", "JSONLogger", "ModelCheckpoint"]

Logs = dict[str, float]


class Callback:
    """Base of callbacks: override what is needed.

    Attributes:
        trainer: The Trainer; ``trainer.stop_training = True`` ends training after this epoch.

    Example:
        >>> import fastnn as fn
        >>> class Stop(fn.train.Callback):
        ...     def on_epoch_end(self, epoch, logs):
        ...         self.trainer.stop_training = logs["loss"] < 0.1
    """

    trainer: Trainer

    def set_trainer(self, trainer: Trainer) -> None:
        """Called by fit, first of all."""
        self.trainer = trainer

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch; not after an error."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation, with what History gets."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a batch, with the means over the epoch so far."""


def wants_batches(callbacks: Sequence[Callback]) -> bool:
    """Whether a callback overrides on_train_batch_end.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.callbacks import wants_batches
        >>> wants_batches([fn.train.Callback()])
        False
    """
    return any(type(c).on_train_batch_end is not Callback.on_train_batch_end for c in callbacks)


class Best:
    """Whether a value is the best so far; NaN never is.

    Example:
        >>> from fastnn.train.callbacks import Best
        >>> best = Best("val_accuracy")
        >>> best.improves(0.5), best.improves(0.4)
        (True, False)
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.sign = 1.0 if "accuracy" in monitor else -1.0
        self.value: float | None = None

    def improves(self, value: float) -> bool:
        """Whether it does; if so, it is the best from now on."""
        if math.isnan(value) or (self.value is not None and self.sign * (value - self.value) <= 0):
            return False
        self.value = value
        return True


class ModelCheckpoint(Callback):
    """Write the model after every epoch, or when it is the best so far.

    Args:
        path: The file; ``{epoch}`` in it is replaced, counted from 1.
        monitor: The quantity that counts: smaller is better, but for accuracies.
        save_best_only: Whether to write only when the quantity has improved.

    Raises:
        ValueError: At the end of an epoch that has no such quantity.

    Example:
        >>> import fastnn as fn
        >>> best = fn.train.ModelCheckpoint("best.safetensors", monitor="val_loss")
    """

    def __init__(self, path: str, monitor: str = "val_loss", save_best_only: bool = True) -> None:
        self.path, self.save_best_only = path, save_best_only
        self.best = Best(monitor)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write, if it is time."""
        if self.save_best_only:
            if self.best.monitor not in logs:
                raise ValueError(
                    f"ModelCheckpoint: expected monitor to be one of {', '.join(logs)}, "
                    f"got {self.best.monitor!r}"
                )
            if not self.best.improves(logs[self.best.monitor]):
                return
        save_model(self.path.replace("{epoch}", str(epoch + 1)), self.trainer.model)


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
