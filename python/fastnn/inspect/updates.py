"""How far a step moves the weights, watched during training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.inspect.plots import new_axes
from fastnn.train.callbacks import Callback, Logs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["UpdateRatio"]


class UpdateRatio(Callback):
    """A callback: ||w after a step - w before|| / ||w before||, for every weight matrix.

    About 1e-3 is healthy. Much more, and the learning rate is too high; much less, and the weights
    hardly move. It reads the weights after every batch, which costs a native call each.

    Args:
        every: Measure one step of so many.

    Attributes:
        steps: Numbers of the steps measured, from 1.
        ratios: What was measured, one list per weight, by path.

    Raises:
        ValueError: If every is less than 1.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> trainer = fn.Trainer(
        ...     model, fn.nn.CrossEntropyLoss(), fn.optim.SGD(model.parameters(), lr=0.1))
        >>> watch = fn.inspect.UpdateRatio()
        >>> x = np.random.default_rng(0).normal(size=(64, 2))
        >>> _ = trainer.fit(x, (x[:, 0] > 0).astype(int), callbacks=[watch], verbose=0)
        >>> watch.steps, bool(0 < watch.ratios["weight"][0] < 0.5)
        ([1, 2], True)

    Source:
        Karpathy 2015, CS231n notes, "Neural networks part 3", ratio of weights to updates.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"UpdateRatio: expected every >= 1, got {every}")
        self.every = every
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.steps: list[int] = []
        self.ratios: dict[str, list[float]] = {}
        self._step = 0
        self._before: dict[str, Any] = {}

    def on_train_begin(self) -> None:
        """Before the first epoch."""
        self._before = self._weights() if self.every == 1 or self._step == 0 else {}

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Measure this step, or keep the weights for the next."""
        self._step += 1
        measured = self._step % self.every == 0 and bool(self._before)
        if not measured and (self._step + 1) % self.every:
            return
        now = self._weights()
        if measured:
            self.steps.append(self._step)
            for name, w in now.items():
                before = self._before[name]
                norm = float(np.linalg.norm(before))
                ratio = float(np.linalg.norm(w - before)) / norm if norm else math.inf
                self.ratios.setdefault(name, []).append(ratio)
        self._before = now

    def plot(self, axes: Axes | None = None) -> Axes:
        """The ratios by step; needs matplotlib, but no display.

        Args:
            axes: Where to draw; default: a figure of its own.

        Returns:
            The axes.
        """
        axes = axes or new_axes()
        for name, values in self.ratios.items():
            axes.semilogy(self.steps, values, label=name)
        axes.axhline(1e-3, color="#888888", linewidth=1, linestyle=":")
        axes.set_xlabel("step")
        axes.set_ylabel("update / weight")
        axes.legend(frameon=False)
        return axes

    def _weights(self) -> dict[str, Any]:
        return {
            name: np.array(p.detach().to("cpu"), np.float64)
            for name, p in self.trainer.model.named_parameters()
            if p.ndim >= 2
        }
