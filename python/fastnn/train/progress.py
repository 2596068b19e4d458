"""What fit shows on stderr: nothing, a bar and a line per epoch, or the lines alone."""

from __future__ import annotations

import sys
from typing import Any, TextIO

__all__ = ["Progress", "make_progress"]

Logs = dict[str, float]


class Progress:
    """Shows nothing; base of the others."""

    def begin(self, first: int, epochs: int, samples: int) -> None:
        """Before the first epoch."""

    def batch(self, epoch: int, done: int) -> None:
        """After some batches; ``done`` samples of the epoch."""

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch."""

    def close(self) -> None:
        """At the end, also after an error."""


class Lines(Progress):
    """A table with one line per epoch."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._epochs = 0
        self._wrote_header = False

    def begin(self, first: int, epochs: int, samples: int) -> None:
        """Remember how many epochs there are."""
        self._epochs = epochs

    def write(self, line: str) -> None:
        """One line."""
        print(line, file=self._stream or sys.stderr, flush=True)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        """One line; before the first, the names of the columns."""
        cells = _cells(logs)
        width = max(5, 2 * len(str(self._epochs)) + 1)
        if not self._wrote_header:
            self._wrote_header = True
            self.write(f"{'epoch':>{width}}" + "".join(f"  {name:>{w}}" for name, w, _ in cells))
        label = f"{epoch + 1}/{self._epochs}"
        self.write(f"{label:>{width}}" + "".join(f"  {text:>{w}}" for _, w, text in cells))


def _cells(logs: Logs) -> list[tuple[str, int, str]]:
    """(name, width, text) of each column."""
    cells = []
    for name, title in (("", "train"), ("val_", "val")):
        if name + "loss" in logs:
            cells.append((f"{title} loss", 10, f"{logs[name + 'loss']:.4f}"))
        if name + "accuracy" in logs:
            cells.append((f"{title} acc", 9, f"{100 * logs[name + 'accuracy']:.2f} %"))
    cells.append(("samples/s", 10, f"{logs['samples_per_s']:,.0f}"))
    cells.append(("lr", 8, f"{logs['lr']:.4g}"))
    return cells


class Bar(Lines):
    """The lines, and below them a bar of all epochs. Needs rich and a terminal."""

    def begin(self, first: int, epochs: int, samples: int) -> None:
        """Show the bar."""
        super().begin(first, epochs, samples)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._samples = samples
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task(
            "", total=epochs * samples, completed=first * samples, epoch=first + 1
        )
        self._bar.start()

    def write(self, line: str) -> None:
        """One line above the bar."""
        self._bar.console.print(line, markup=False, no_wrap=True, crop=False)

    def batch(self, epoch: int, done: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=epoch * self._samples + done, epoch=epoch + 1)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def make_progress(verbose: int) -> Progress:
    """What ``verbose`` of fit means on this terminal.

    Example:
        >>> from fastnn.train.progress import make_progress
        >>> type(make_progress(0)).__name__
        'Progress'
    """
    if verbose == 0:
        return Progress()
    if verbose == 1 and sys.stderr.isatty() and _has_rich():
        return Bar()
    return Lines()


def _has_rich() -> bool:
    from importlib.util import find_spec

    found: Any = find_spec("rich")
    return found is not None
