"""Count, mean, variance, minimum and maximum of data that come in parts, each seen once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.data.preprocessing.base import Floats, samples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["RunningStatistics"]

_CHUNK = 1 << 20  # numbers that are float64 at a time
_NAMES = ("count", "mean", "m2", "minimum", "maximum")


class RunningStatistics:
    """Statistics over the first axis, kept up to date batch by batch.

    A batch of n_b samples with mean b and sum of squared deviations B joins what was seen before
    (n_a, a, A) as

        mean = a + (b - a) n_b / (n_a + n_b)
        m2   = A + B + (b - a)^2 n_a n_b / (n_a + n_b)

    which never subtracts big sums of squares from each other. One sample at a time it is Welford's
    rule.

    Attributes:
        count: Samples seen.
        mean: Their mean, float64, of the shape of a sample.
        m2: Sum of squared deviations from the mean.
        minimum: The smallest values.
        maximum: The largest values.

    Example:
        >>> from fastnn.data import RunningStatistics
        >>> statistics = RunningStatistics()
        >>> for batch in ([[1.0], [2.0]], [[6.0]]):
        ...     statistics.update(batch)
        >>> statistics.count, statistics.mean.item(), statistics.variance().item()
        (3, 3.0, 4.666666666666667)

    Source:
        Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance".
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.m2 = self.minimum = self.maximum = np.zeros(0)

    def update(self, x: ArrayLike) -> None:
        """Take in samples of shape (n, ...); they are seen in chunks, so a memory map will do.

        Raises:
            ValueError: For samples of another shape than before, none, NaN or infinity; nothing is
                changed then.
            TypeError: If x does not hold numbers.
        """
        data = samples("RunningStatistics", x, 1)
        if self.count and data.shape[1:] != self.mean.shape:
            expected = ", ".join(map(str, ("n", *self.mean.shape)))
            raise ValueError(
                f"RunningStatistics: expected x of shape ({expected}), got {data.shape}"
            )
        rows = max(1, _CHUNK * len(data) // data.size)
        for start in range(0, len(data), rows):
            self.merge(_of(data[start : start + rows].astype(np.float64)))

    def merge(self, other: RunningStatistics) -> None:
        """Take in what another one has seen.

        Raises:
            ValueError: If its samples have another shape.
        """
        if self.count == 0 or other.count == 0:
            if other.count:
                self._take({name: getattr(other, name) for name in _NAMES})
            return
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"RunningStatistics: expected samples of shape {self.mean.shape}, got "
                f"{other.mean.shape}"
            )
        count = self.count + other.count
        delta = other.mean - self.mean
        self.mean = self.mean + delta * (other.count / count)
        self.m2 = self.m2 + other.m2 + delta**2 * (self.count * (other.count / count))
        self.minimum = np.minimum(self.minimum, other.minimum)
        self.maximum = np.maximum(self.maximum, other.maximum)
        self.count = count

    def variance(self, ddof: int = 0) -> Floats:
        """m2 / (count - ddof).

        Raises:
            ValueError: If there are not more samples than ``ddof``.
        """
        if self.count <= ddof:
            raise ValueError(
                f"RunningStatistics: expected more than {ddof} samples, got {self.count}"
            )
        result: Floats = self.m2 / (self.count - ddof)
        return result

    def scale(self) -> Floats:
        """The standard deviation, and 1 where a feature does not vary beyond rounding.

        The bound on rounding is that of scikit-learn's StandardScaler.
        """
        variance, u = self.variance(), np.finfo(np.float64).eps
        varies = variance > self.count * u * variance + (self.count * self.mean * u) ** 2
        return np.sqrt(np.where(varies, variance, 1.0))

    def pooled(self, groups: int) -> RunningStatistics:
        """Those of so many equal runs of consecutive features, each taken together.

        Example:
            >>> from fastnn.data import RunningStatistics
            >>> statistics = RunningStatistics()
            >>> statistics.update([[1.0, 3.0], [5.0, 7.0]])
            >>> statistics.pooled(1).mean, statistics.pooled(1).variance()
            (array([4.]), array([5.]))
        """
        mean, m2 = self.mean.reshape(groups, -1), self.m2.reshape(groups, -1)
        pooled = mean.mean(1)
        between = ((mean - pooled[:, None]) ** 2).sum(1)
        values = {
            "count": self.count * mean.shape[1],
            "mean": pooled,
            "m2": m2.sum(1) + self.count * between,
            "minimum": self.minimum.reshape(groups, -1).min(1),
            "maximum": self.maximum.reshape(groups, -1).max(1),
        }
        return RunningStatistics()._take(values)

    def state_dict(self) -> dict[str, Floats]:
        """All of it as float64 arrays."""
        return {name: np.array(getattr(self, name), np.float64) for name in _NAMES}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Go on from a :meth:`state_dict`.

        Raises:
            ValueError: If it is none; nothing is changed then.
        """
        if sorted(state) != sorted(_NAMES):
            raise ValueError(f"RunningStatistics: expected a state of {list(_NAMES)}")
        values = {name: np.array(state[name], np.float64) for name in _NAMES}
        shapes = {values[name].shape for name in _NAMES[1:]}
        count = values["count"]
        if count.shape != () or not (count >= 0 and count % 1 == 0) or len(shapes) != 1:
            raise ValueError("RunningStatistics: expected a whole count and arrays of one shape")
        if not all(np.isfinite(v).all() for v in values.values()) or (values["m2"] < 0).any():
            raise ValueError("RunningStatistics: expected finite numbers and m2 >= 0")
        self._take({**values, "count": int(count)})

    def _take(self, values: Mapping[str, Any]) -> Self:
        for name in _NAMES:
            setattr(self, name, values[name])
        return self


def _of(x: Floats) -> RunningStatistics:
    """Statistics of one batch, in two passes over x less its first sample.

    So the mean of a constant is that constant, and sums do not lose what a large offset hides.
    """
    shifted = x - x[0]
    mean = shifted.mean(0)
    values = {"count": len(x), "mean": x[0] + mean, "m2": ((shifted - mean) ** 2).sum(0)}
    return RunningStatistics()._take({**values, "minimum": x.min(0), "maximum": x.max(0)})
