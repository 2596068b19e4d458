"""Metrics of numbers: the mean squared error and R^2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn.train.metrics.base import Array, Metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["MeanSquaredError", "R2Score"]


class MeanSquaredError(Metric):
    """The mean of (outputs - y)^2.

    Raises:
        ValueError: In update for shapes that differ.

    Example:
        >>> from fastnn.train.metrics import MeanSquaredError
        >>> mse = MeanSquaredError()
        >>> mse.update([1.0, 2.0], [1.0, 4.0])
        >>> mse.compute()
        2.0
    """

    name = "mse"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._squares, self._elements = 0.0, 0

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add arrays of the same shape."""
        a, b = _pair(self, outputs, y)
        self._squares += float(((a - b) ** 2).sum())
        self._elements += a.size

    def compute(self) -> float:
        """The mean."""
        return self._squares / self._elements if self._elements else float("nan")


class R2Score(Metric):
    """1 - sum (y - outputs)^2 / sum (y - mean y)^2: the share of the variance that is explained.

    The spread of y is merged from part to part, not as a difference of large sums.

    Raises:
        ValueError: In update for shapes that differ.

    Example:
        >>> from fastnn.train.metrics import R2Score
        >>> r2 = R2Score()
        >>> r2.update([1.0, 2.0], [1.0, 2.0])
        >>> r2.update([3.0], [4.0])
        >>> round(r2.compute(), 3)
        0.786

    Source:
        Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", for the merging.
    """

    name = "r2"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._elements, self._mean, self._spread, self._squares = 0, 0.0, 0.0, 0.0

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add arrays of the same shape."""
        a, b = _pair(self, outputs, y)
        if not b.size:
            return
        n, mean = b.size, float(b.mean())
        total, delta = self._elements + n, mean - self._mean
        self._spread += float(((b - mean) ** 2).sum()) + delta**2 * self._elements * n / total
        self._mean += delta * n / total
        self._elements = total
        self._squares += float(((a - b) ** 2).sum())

    def compute(self) -> float:
        """The share; NaN if y does not vary."""
        return 1 - self._squares / self._spread if self._spread else float("nan")


def _pair(metric: Metric, outputs: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(outputs, np.float64), np.asarray(y, np.float64)
    metric._need(a.shape == b.shape, "outputs and y of one shape", f"{a.shape} and {b.shape}")
    return a, b
