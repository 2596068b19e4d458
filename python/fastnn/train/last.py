"""The last checkpoints of a training: the newest under its own name, those before it beside it.

``last.safetensors`` is always the newest; before it is replaced it gets a second name,
``last-<steps>.safetensors``, and the oldest is removed once the new one is durable. So a crash at
any point leaves at least as many whole checkpoints as there were.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastnn.train.files import CheckpointError, write_atomically

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["LastCheckpoints", "load_last"]


class LastCheckpoints:
    """Writes the state of a training, and keeps the states before it.

    Args:
        path: The file of the newest.
        keep: How many to keep in all, >= 1.

    Example:
        >>> import os, tempfile, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters())
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> folder = tempfile.mkdtemp()
        >>> last = fn.train.last.LastCheckpoints(os.path.join(folder, "last.safetensors"), keep=2)
        >>> for epoch in range(4):
        ...     _ = trainer.fit([[1.0, 2.0]], [0], initial_epoch=epoch, epochs=epoch + 1, verbose=0)
        ...     last.save(trainer)
        >>> sorted(os.listdir(folder))
        ['last-3.safetensors', 'last.safetensors']
    """

    def __init__(self, path: str, keep: int = 1) -> None:
        self.path, self.keep = path, keep
        self._steps: int | None = None  # of what is at path, if it is of this training
        self._older: list[str] = []  # of this training, the oldest first

    def save(self, trainer: Trainer, extra: Mapping[str, Any] | None = None) -> None:
        """Write the newest; what other trainings left beside it is removed.

        Raises:
            StorageError: If it cannot be written; the checkpoints are as they were.
        """
        steps = trainer.optimizer.step_count
        if self.keep > 1 and self._steps not in (None, steps):
            stem, end = os.path.splitext(self.path)
            older = f"{stem}-{self._steps}{end}"
            _name_again(self.path, older)
            self._older = [p for p in self._older if p != older] + [older]
        trainer.save(self.path, extra)
        self._steps = steps
        self._older = self._older[max(0, len(self._older) - self.keep + 1) :]
        for path in set(older_ones(self.path)) - set(self._older):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def load(self, trainer: Trainer) -> tuple[dict[str, Any], list[str]]:
        """Continue from the newest that is whole.

        Returns:
            What was kept with it, and what is wrong with the newer ones.

        Raises:
            FileNotFoundError: If there is none.
            CheckpointError: If none can be used; it tells of the newest.
        """
        errors: list[CheckpointError | FileNotFoundError] = []
        older = older_ones(self.path)
        for path in (self.path, *reversed(older)):
            try:
                extra = trainer.load(path)
            except (CheckpointError, FileNotFoundError) as error:
                errors.append(error)
                continue
            self._older = older[: older.index(path) + 1] if errors else older
            self._steps = None if errors else trainer.optimizer.step_count
            told = [f"{error}; going on with {os.path.basename(path)}" for error in errors[-1:]]
            return extra, [*map(str, errors[:-1]), *told]
        raise errors[0]

    def adopt(self, steps: int) -> None:
        """Go on with the files there are: the newest is of so many steps."""
        self._steps = steps if os.path.exists(self.path) else None
        self._older = older_ones(self.path)


def load_last(trainer: Trainer, path: str) -> dict[str, Any]:
    """Continue from the newest checkpoint that is whole; ``fit(..., initial_epoch=None)`` goes on.

    Args:
        trainer: Of the same model and optimizer.
        path: The newest, as ``ModelCheckpoint(save_last=3)`` wrote it; those beside it are tried
            after it, and a warning says which one it is and what is wrong with the newer ones.

    Returns:
        What was given to save as ``extra``.

    Raises:
        FileNotFoundError: If there is none.
        CheckpointError: If none can be used; nothing is changed then.

    Example:
        >>> import os, tempfile, numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters())
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> folder = tempfile.mkdtemp()
        >>> best = os.path.join(folder, "best.safetensors")
        >>> keep = fn.train.ModelCheckpoint(best, monitor="loss", save_last=3)
        >>> _ = trainer.fit(np.eye(2), [0, 1], epochs=5, callbacks=[keep], verbose=0)
        >>> _ = fn.train.load_last(trainer, os.path.join(folder, "last.safetensors"))
        >>> trainer.epoch
        5
    """
    extra, problems = LastCheckpoints(path).load(trainer)
    for problem in problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return extra


def older_ones(path: str) -> list[str]:
    """The checkpoints beside the newest, the oldest first.

    Example:
        >>> from fastnn.train.last import older_ones
        >>> older_ones("nowhere/last.safetensors")
        []
    """
    folder, name = os.path.split(path)
    stem, end = map(re.escape, os.path.splitext(name))
    pattern = re.compile(rf"{stem}-([0-9]{{1,18}}){end}")
    try:
        matches = [m for m in map(pattern.fullmatch, os.listdir(folder or ".")) if m]
    except FileNotFoundError:
        return []
    return [os.path.join(folder, m[0]) for m in sorted(matches, key=lambda m: int(m[1]))]


def _name_again(path: str, name: str) -> None:
    """A second name of a file; a copy where the file system has no such thing."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    try:
        os.link(path, name)
    except FileNotFoundError:  # somebody removed it
        return
    except OSError:
        with open(path, "rb") as file:
            write_atomically(name, file.read())
