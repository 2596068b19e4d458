"""Finding a learning rate: one short run through all rates, or a run for each of a few.

Both leave the model, the optimizer and the generators as they were: they train with an optimizer of
the same class and options, whose state is fresh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import nn, optim, random
from fastnn._checks import checked
from fastnn.optim import Optimizer, lr_scheduler
from fastnn.optim.lr_scheduler.tools import new_axes
from fastnn.train.callbacks import Callback, Logs
from fastnn.train.history import History
from fastnn.train.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LRRange", "LRSearch", "left_as_it_was", "lr_range_test", "lr_search"]

Loss = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class LRRange:
    """What :func:`lr_range_test` found.

    Attributes:
        lrs: The rate of each step.
        losses: Its loss.
        smoothed: Moving average of the losses.
        suggestion: Where the smoothed loss falls fastest; None if it never falls.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the losses over the rates; needs matplotlib."""
        axes = axes or new_axes()
        axes.plot(self.lrs, self.losses, color="#c0c0c0", linewidth=1)
        axes.plot(self.lrs, self.smoothed, color="#4c72b0", linewidth=1.8)
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="#dd8452", linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        return axes


@dataclasses.dataclass(frozen=True)
class LRSearch:
    """What :func:`lr_search` found.

    Attributes:
        lrs: The rates.
        losses: The last loss with each, of validation if there is one; infinity where the training
            failed.
        histories: The history with each.
        suggestion: The rate of the least loss; None if all failed.
    """

    lrs: list[float]
    losses: list[float]
    histories: list[History]
    suggestion: float | None

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the loss by epoch for each rate; needs matplotlib."""
        axes = axes or new_axes()
        for lr, history in zip(self.lrs, self.histories, strict=True):
            losses = history.history.get("val_loss", history.history.get("loss", []))
            axes.plot(range(1, len(losses) + 1), losses, label=f"{lr:.3g}", marker="o")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.legend(title="learning rate", frameon=False)
        return axes


@checked
def lr_range_test(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    x: Any,
    y: Any,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    *,
    smoothing: float = 0.9,
) -> LRRange:
    """Raise the rate by a factor with each step, until the loss is four times its least.

    The loss stays flat while rates are too small, falls, and explodes when they are too large.

    Args:
        model: The model.
        loss: As for the Trainer.
        optimizer: Of the model's parameters; all groups get the same rate.
        x: Samples.
        y: Labels or targets.
        min_lr: The first rate.
        max_lr: The last rate.
        steps: How many.
        batch_size: Samples per step.
        smoothing: Decay of the moving average, in [0, 1).

    Returns:
        Rates, losses and a suggestion; ``.plot()`` shows them.

    Raises:
        ValueError: If an argument is out of range, or for data that do not fit.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> model = fn.nn.Linear(4, 2)
        >>> optimizer = fn.optim.SGD(model.parameters())
        >>> labels = (x[:, 0] > 0).astype(int)
        >>> found = fn.train.lr_range_test(model, fn.nn.CrossEntropyLoss(), optimizer, x, labels)
        >>> 1e-3 < found.suggestion < 10
        True

    Source:
        Smith 2017, "Cyclical learning rates for training neural networks".
    """
    if not 0 < min_lr < max_lr < math.inf:
        raise ValueError(f"lr_range_test: expected 0 < min_lr < max_lr, got {min_lr}, {max_lr}")
    if steps < 3:
        raise ValueError(f"lr_range_test: expected steps >= 3, got {steps}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"lr_range_test: expected 0 <= smoothing < 1, got {smoothing}")
    sweep = _Sweep(len(x), batch_size, steps, smoothing)
    with left_as_it_was(model):
        fresh = optim.switch(optimizer, type(optimizer), lr=min_lr)
        rates = lr_scheduler.ExponentialLR(fresh, (max_lr / min_lr) ** (1 / (steps - 1)))
        trainer = Trainer(model, loss, fresh, (), scheduler=rates, scheduler_interval="step")
        try:
            trainer.fit(x, y, batch_size, epochs=steps, callbacks=[sweep], verbose=0)
        except _Enough:
            pass
        except ValueError:  # a loss that is not finite, unless it is the first
            if not sweep.losses:
                raise
    lrs = [rates.at(i)[0] for i in range(len(sweep.losses))]
    return LRRange(lrs, sweep.losses, sweep.smoothed, _steepest(lrs, sweep.smoothed))


@checked
def lr_search(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    x: Any,
    y: Any,
    lrs: Sequence[float] | None = None,
    multipliers: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    epochs: int = 1,
    **fit: Any,
) -> LRSearch:
    """Train with each of some rates, from the same start; the least loss wins.

    Args:
        model: The model.
        loss: As for the Trainer.
        optimizer: Of the model's parameters; all groups get the same rate.
        x: Samples.
        y: Labels or targets.
        lrs: The rates, such as ``[1e-1, 1e-2, 1e-3, 1e-4]``; default: multiples of the optimizer's.
        multipliers: Which multiples.
        epochs: Of each training.
        fit: Other arguments of :meth:`fastnn.Trainer.fit`, such as batch_size and
            validation_split.

    Returns:
        Losses, histories and the best rate; ``.plot()`` shows them.

    Raises:
        ValueError: If there is no rate, or one is not positive; for data that do not fit.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> model = fn.nn.Linear(4, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=1e-4)
        >>> labels = (x[:, 0] > 0).astype(int)
        >>> fn.train.lr_search(model, fn.nn.CrossEntropyLoss(), optimizer, x, labels).suggestion
        0.0004
    """
    base = float(optimizer.param_groups[0]["lr"])
    rates = [base * m for m in multipliers] if lrs is None else [float(lr) for lr in lrs]
    if not rates or not all(0 < lr < math.inf for lr in rates):
        raise ValueError(f"lr_search: expected rates > 0, got {rates}")
    losses, histories = [], []
    for lr in rates:
        kept = _Keep()
        with left_as_it_was(model):
            fresh = optim.switch(optimizer, type(optimizer), lr=lr)
            trainer = Trainer(model, loss, fresh, ())
            try:
                trainer.fit(x, y, epochs=epochs, callbacks=[kept], **{"verbose": 0, **fit})
            except ValueError:
                if not fresh.step_count:
                    raise
                kept.last = math.inf
        losses.append(kept.last)
        histories.append(kept.history)
    best = int(np.argmin(losses))
    return LRSearch(rates, losses, histories, rates[best] if losses[best] < math.inf else None)


class _Enough(Exception):
    """Ends a fit."""


class _Sweep(Callback):
    """The loss of each step, out of the means over the epoch so far."""

    def __init__(self, samples: int, batch_size: int, steps: int, smoothing: float) -> None:
        self.samples, self.batch_size, self.steps = samples, batch_size, steps
        self.smoothing = smoothing
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._sum, self._average = 0.0, 0.0

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        before = batch * self.batch_size
        rows = min(self.batch_size, self.samples - before)
        total = logs["loss"] * (before + rows)
        self.losses.append((total - (self._sum if batch else 0.0)) / rows)
        self._sum = total
        b = self.smoothing
        self._average = b * self._average + (1 - b) * self.losses[-1]
        self.smoothed.append(self._average / (1 - b ** len(self.losses)))
        least = min(self.smoothed)
        if len(self.losses) == self.steps or self.smoothed[-1] - least > 3 * abs(least):
            raise _Enough


class _Keep(Callback):
    """The history, also of a training that fails."""

    def __init__(self) -> None:
        self.history, self.last = History(), math.inf

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.history.append(epoch, logs)
        self.last = logs.get("val_loss", logs["loss"])


def _steepest(lrs: list[float], losses: list[float]) -> float | None:
    """The rate where the loss falls fastest, by the logarithm of the rate."""
    if len(lrs) < 2:
        return None
    slopes = np.gradient(np.array(losses), np.log(lrs))
    best = int(slopes.argmin())
    return lrs[best] if slopes[best] < 0 else None


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Afterwards weights, buffers and generators are as before."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generators = random.get_state()
    try:
        yield
    finally:
        model.load_state_dict(state)
        random.set_state(generators)
