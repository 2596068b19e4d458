"""The curves of a training, and what can be measured on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "Curves",
    "chance",
    "collapsed",
    "early",
    "judged",
    "jumps",
    "late",
    "level",
    "likeness",
    "pace",
    "reached",
    "roughness",
    "sampling_error",
    "slope",
    "stride",
    "travelled",
    "trend",
]

Series = np.ndarray[Any, np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True)
class Curves:
    """What a diagnosis looks at.

    Attributes:
        loss: Training loss by epoch.
        val_loss: Validation loss by epoch; empty if there is none.
        accuracy: Training accuracy by epoch; empty if there is none.
        val_accuracy: Likewise.
        first: Loss before any update, as near as it is known.
        classes: How many; 0 if unknown, or there are none.
        val_samples: How many; 0 if unknown.
        steps: Loss of each step, by epoch; empty if unknown.
        error: What ended the training before its time.
        moved: How far the weights are from where they began after 1, 2, 4, ... epochs, as a share
            of their size: of the matrix that has moved furthest; empty if unknown.
        gain: The largest that a matrix of weights began with: its entries' root mean square, times
            the root of its fan-in; None if unknown.
        step_count: Steps of an epoch; 0 if unknown.
        shuffle: Whether epochs had orders of their own; None if unknown.
        probabilities: Whether outputs are probabilities before a cross-entropy, which takes
            logits; None if unknown.
    """

    loss: Series
    val_loss: Series
    accuracy: Series
    val_accuracy: Series
    first: float
    classes: int
    val_samples: int
    steps: tuple[Series, ...]
    error: str | None
    moved: Series = dataclasses.field(default_factory=lambda: np.empty(0))
    gain: float | None = None
    step_count: int = 0
    shuffle: bool | None = None
    probabilities: bool | None = None

    @classmethod
    def of(
        cls,
        series: Mapping[str, Sequence[float]],
        params: Mapping[str, int],
        first: float | None,
        error: str | None,
        steps: Sequence[tuple[int, float]] = (),
        moved: Mapping[str, Sequence[float]] | None = None,
        gains: Mapping[str, float] | None = None,
    ) -> Curves:
        """From lists by name, (epoch, loss) of each step, and a History's moved and gains."""
        loss, val_loss, accuracy, val_accuracy = (
            np.array(series.get(name, []), np.float64)
            for name in ("loss", "val_loss", "accuracy", "val_accuracy")
        )
        if steps and first is None:
            first = steps[0][1]
        classes = int(params.get("classes", 0))
        if first is None:
            first = math.log(classes) if classes > 1 else float(loss[0]) if len(loss) else math.nan
        epochs = sorted({epoch for epoch, _ in steps})
        by_epoch = tuple(np.array([v for e, v in steps if e == epoch]) for epoch in epochs)
        return cls(
            loss,
            val_loss,
            accuracy,
            val_accuracy,
            first,
            classes,
            int(params.get("val_samples", 0)),
            by_epoch,
            error,
            np.max(list(moved.values()), axis=0) if moved else np.empty(0),
            max(gains.values()) if gains else None,
            -(-int(params.get("samples", 0)) // int(params.get("batch_size", 1))),
            bool(params["shuffle"]) if "shuffle" in params else None,
            bool(params["probabilities"]) if "probabilities" in params else None,
        )


def level(series: Series) -> float:
    """The level at the end: the median of the last few epochs."""
    return float(np.median(series[-max(1, min(5, len(series) // 5)) :]))


def trend(series: Series) -> float:
    """Slope of a line through all but the first, in standard errors of its own."""
    y = series[1:]
    if len(y) < 4:
        return 0.0
    t = np.arange(len(y)) - (len(y) - 1) / 2
    slope = float((t * y).sum() / (t * t).sum())
    rest = y - y.mean() - slope * t
    error = math.sqrt(float((rest * rest).sum()) / (len(y) - 2) / float((t * t).sum()))
    return slope / error if error > 0 else math.copysign(math.inf, slope) if slope else 0.0


def pace(series: Series) -> float:
    """By which share of itself a series falls per epoch, over its second half."""
    half = len(series) // 2
    epochs = max(1, len(series) - 1 - half)
    return float(series[half] - series[-1]) / epochs / abs(float(series[-1]) or 1.0)


def jumps(series: Series) -> float:
    """In which share of the epochs a series rises by 15 % or more."""
    return float((np.diff(series) > 0.15 * series[:-1]).mean()) if len(series) > 1 else 0.0


def slope(series: Series, part: int) -> float:
    """By how much a series changes per epoch, over its last half (2) or third (3)."""
    y = series[-max(2, len(series) // part) :]
    t = np.arange(len(y)) - (len(y) - 1) / 2
    return float((t * y).sum() / (t * t).sum())


def early(series: Series) -> float:
    """Which share of its fall a series does in its first quarter."""
    first, fall = float(series[0]), float(series[0]) - level(series)
    return (first - float(series[max(1, len(series) // 4)])) / fall if fall > 0 else 1.0


def late(series: Series) -> float:
    """Which share of its fall a series does in its second half."""
    fall, half = float(series[0]) - level(series), max(2, len(series) // 2)
    return -slope(series, 2) * half / fall if fall > 0 else 0.0


def roughness(series: Series) -> float:
    """How far a series is from smooth after its first quarter, as a share of its level.

    A validation set is the same in every epoch, so it is the weights that move its loss to and fro.
    """
    rest = series[len(series) // 4 :]
    second = np.abs(np.diff(rest, 2))
    if len(second) <= 5 or (np.diff(rest) > 0).mean() < 0.2:  # it falls, and is bent
        return 0.0
    return float(np.median(second)) / (abs(level(series)) or 1.0)


def reached(series: Series, goal: float) -> int:
    """The first epoch below a level, from 0; the number of epochs if there is none."""
    return next((i for i, value in enumerate(series) if value < goal), len(series))


def likeness(steps: Sequence[Series]) -> tuple[float, float]:
    """How much the losses of an epoch's steps resemble those of other epochs, step by step.

    The mean correlation of all pairs of epochs after the first, without the slope in each, and that
    in standard errors of none. The first epoch falls whatever the order, and the last step is left
    out: it has fewer samples, whose mean loss has a smaller median.
    """
    epochs = [e[:-1] for e in steps if len(e) == len(steps[0]) and len(e) >= 8][1:]
    if len(epochs) < 3:
        return 0.0, 0.0
    logs = np.log(np.maximum(epochs, 1e-12)).T
    t = np.arange(len(logs))
    shapes = logs - np.outer(t, np.polyfit(t, logs, 1)[0])
    shapes -= shapes.mean(0)
    spread = shapes.std(0)
    shapes = shapes[:, spread > 0] / spread[spread > 0]
    n, k = shapes.shape
    if k < 3:
        return 0.0, 0.0
    pairs = k * (k - 1)
    alike = float((shapes.sum(1) ** 2).mean() - k) / pairs
    return alike, alike * math.sqrt(pairs / 2 * (n - 2))


def stride(c: Curves) -> float | None:
    """The size of a step in the first epoch, as a share of the weights' own; None if unknown.

    That of a random walk which went as far: the steps of a rate that is too high go to and fro.
    """
    if not len(c.moved) or not c.step_count:
        return None
    return float(c.moved[0]) / math.sqrt(c.step_count)


def travelled(c: Curves) -> float | None:
    """How far the weights have come, as a share of their size; None if unknown."""
    known = len(c.moved) and len(c.loss) < 2 ** len(c.moved)
    return float(c.moved[-1]) if known else None


def judged(c: Curves) -> Series:
    """What tells how good the model is: the validation loss, or the loss, if it is of too few."""
    return c.loss if not len(c.val_loss) or 0 < c.val_samples <= 30 else c.val_loss


def chance(c: Curves) -> float:
    """The loss of a model that knows nothing."""
    return math.log(c.classes) if c.classes > 1 else c.first


def collapsed(c: Curves) -> bool:
    """Whether the loss ends at that of chance, where outputs are all alike."""
    return c.classes > 1 and abs(level(c.loss) / chance(c) - 1) < 0.006


def sampling_error(c: Curves) -> float:
    """Standard error of the validation accuracy."""
    n = c.val_samples
    p = float(np.clip(level(c.val_accuracy), 0.5 / n, 1 - 0.5 / n)) if n else 0.0
    return math.sqrt(p * (1 - p) / n) if n else 0.0
