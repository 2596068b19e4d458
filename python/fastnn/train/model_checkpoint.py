"""ModelCheckpoint: the models of a training that are worth keeping, as files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from fastnn.train.callbacks import Best, Callback, Logs, averaged, monitored
from fastnn.train.checkpoint import save_model
from fastnn.train.last import LastCheckpoints

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Callback):
    """Write the model after every epoch, or when it is among the best so far.

    With an :class:`fastnn.train.EMA` it writes the averages, which is what validation measured.

    Args:
        filepath: The file; a format of ``epoch``, counted from 1, and of the logs, such as
            ``"models/{epoch:02d}-{val_loss:.3f}.safetensors"``.
        monitor: The quantity that counts.
        save_best_only: Whether to write only when the quantity has improved.
        mode: ``"min"``, ``"max"`` or ``"auto"``: larger is better for accuracies and other scores.
        save_top_k: With save_best_only, how many of the best to keep, in files of their own; the
            file of one that is among them no more is removed.
        save_last: How many of the last checkpoints of the whole training to keep, after every
            epoch: the newest as ``last.safetensors`` beside filepath, those before it as
            ``last-<steps>.safetensors``. :func:`fastnn.train.load_last` goes on from them. It has
            to come last among the callbacks then.

    Attributes:
        best_k_models: The value of each file that is kept, the best first.
        best_model_path: The first of them, or None.

    Raises:
        ValueError: If an argument is out of range; at the end of an epoch that has no such
            quantity.

    Example:
        >>> import fastnn as fn
        >>> best = fn.train.ModelCheckpoint("best.safetensors", monitor="val_loss")
        >>> three = fn.train.ModelCheckpoint("{epoch}.safetensors", save_top_k=3)
    """

    def __init__(
        self,
        filepath: str,
        monitor: str = "val_loss",
        save_best_only: bool = True,
        mode: str = "auto",
        save_top_k: int = 1,
        save_last: int = 0,
    ) -> None:
        if save_top_k < 1:
            raise ValueError(f"ModelCheckpoint: expected save_top_k >= 1, got {save_top_k}")
        if save_last < 0:
            raise ValueError(f"ModelCheckpoint: expected save_last >= 0, got {save_last}")
        if save_top_k > 1 and "{" not in filepath:
            raise ValueError(
                f"ModelCheckpoint: expected {{epoch}} in filepath with save_top_k {save_top_k}, "
                f"got {filepath!r}"
            )
        self.filepath, self.save_best_only, self.save_top_k = filepath, save_best_only, save_top_k
        self.save_last = save_last
        self.best = Best(monitor, mode=mode)
        self.reset()

    @property
    def best_model_path(self) -> str | None:
        """The file of the best model so far."""
        return next(iter(self.best_k_models), None)

    def reset(self) -> None:
        """No model is among the best so far, nor the last."""
        self.best_k_models: dict[str, float] = {}
        folder = os.path.dirname(self.filepath)
        self.last = LastCheckpoints(os.path.join(folder, "last.safetensors"), self.save_last)

    def state_dict(self) -> dict[str, Any]:
        """The files of the best, with their values."""
        return {"best_k_models": dict(self.best_k_models)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        kept = state.get("best_k_models")
        if not isinstance(kept, dict) or not all(type(v) is float for v in kept.values()):
            raise ValueError(
                f"ModelCheckpoint: expected files and values in best_k_models, got {str(kept)[:80]}"
            )
        self.best_k_models = dict(kept)
        self.last.adopt(self.trainer.optimizer.step_count)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write, if it is time."""
        self._keep_model(epoch, logs)
        if self.save_last:
            self.last.save(self.trainer)

    def _keep_model(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only:
            return self._write(self._path(epoch, logs))
        value = float(monitored(self, logs, self.best.monitor))
        values = list(self.best_k_models.values())
        self.best.value = values[-1] if len(values) == self.save_top_k else None
        if not self.best.improves(value):  # than the worst that is kept
            return
        path = self._path(epoch, logs)
        self._write(path)
        files = {**self.best_k_models, path: value}
        ranked = sorted(files.items(), key=lambda item: -self.best.sign * item[1])
        for dropped, _ in ranked[self.save_top_k :]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dropped)
        self.best_k_models = dict(ranked[: self.save_top_k])

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"ModelCheckpoint: expected filepath to be a format of epoch, {', '.join(logs)}, "
                f"got {self.filepath!r} ({error})"
            ) from None

    def _write(self, path: str) -> None:
        with averaged(self.trainer):
            save_model(path, self.trainer.model)
