"""Centring and scaling of features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number
from fastnn.data.preprocessing.statistics import RunningStatistics

__all__ = ["MinMaxScaler", "StandardScaler"]


def _statistics(x: Array) -> RunningStatistics:
    statistics = RunningStatistics()
    statistics.update(x)
    return statistics


class _Affine(Transform):
    """(x - offset) / scale with numbers that come from running statistics."""

    def _numbers(self, statistics: RunningStatistics) -> dict[str, Any]:
        raise NotImplementedError

    def _offset_and_scale(self) -> tuple[Floats, Floats]:
        raise NotImplementedError

    @classmethod
    def from_statistics(cls, statistics: RunningStatistics, **options: Any) -> Self:
        """Fitted to data that were seen in parts: those of a stream, or of a file in pieces.

        Example:
            >>> from fastnn.data import RunningStatistics, StandardScaler
            >>> statistics = RunningStatistics()
            >>> statistics.update([[1.0], [3.0]])
            >>> StandardScaler.from_statistics(statistics).transform([[4.0]])
            array([[2.]])
        """
        if statistics.count == 0 or statistics.mean.ndim != 1:
            raise ValueError(
                f"{cls.__name__}: expected statistics of samples of shape (features,), got "
                f"{statistics.count} samples of shape {statistics.mean.shape}"
            )
        transform = cls(**options)
        return transform._accept(transform._numbers(statistics))

    def _fit(self, x: Array) -> dict[str, Any]:
        return self._numbers(_statistics(x))

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = self._offset_and_scale()[0].shape
        return shape, shape

    def _apply(self, x: Floats) -> Floats:
        offset, scale = self._offset_and_scale()
        return (x - offset) / scale

    def _invert(self, x: Floats) -> Floats:
        offset, scale = self._offset_and_scale()
        return x * scale + offset


@dataclasses.dataclass(eq=False)
class StandardScaler(_Affine):
    """Mean 0 and variance 1 for every feature: (x - mean_) / scale_.

    The variance is that of the population (divided by n), as in scikit-learn. A feature that does
    not vary is centred only. ``StandardScaler(with_std=False)`` centres and nothing else. Pixels of
    images share a scale, which ``channels`` keeps: scaling each by itself would blow up those that
    hardly ever vary.

    Args:
        with_mean: Whether to centre.
        with_std: Whether to scale.
        channels: For rows that are images, channel after channel: one mean and one standard
            deviation for all pixels of a channel, instead of one for each feature.

    Attributes:
        mean_: Means, shape (features,); 0 without ``with_mean``.
        scale_: Standard deviations; 1 without ``with_std`` and where a feature does not vary.

    Raises:
        ValueError: For a number of features that is no multiple of ``channels``.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import StandardScaler
        >>> x = np.array([[1.0, -1.0, 2.0], [2.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
        >>> scaler = StandardScaler().fit(x)
        >>> print(scaler.mean_.round(4), scaler.scale_.round(4))
        [1.     0.     0.3333] [0.8165 0.8165 1.2472]
        >>> print(scaler.transform(x).round(4))
        [[ 0.     -1.2247  1.3363]
         [ 1.2247  0.     -0.2673]
         [-1.2247  1.2247 -1.069 ]]

    Source:
        LeCun, Bottou, Orr, Müller 1998, "Efficient BackProp", section 4.3.
    """

    with_mean: bool = True
    with_std: bool = True
    channels: int | None = None
    mean_: Floats = number("features")
    scale_: Floats = number("features")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None and (type(self.channels) is not int or self.channels < 1):
            raise ValueError(
                "StandardScaler: expected channels to be a positive integer or None, got "
                f"{str(self.channels)[:80]}"
            )

    def _numbers(self, statistics: RunningStatistics) -> dict[str, Any]:
        features = len(statistics.mean)
        if self.channels is not None:
            if features % self.channels:
                raise ValueError(
                    f"StandardScaler: expected as many features for each of {self.channels} "
                    f"channels, got {features} features"
                )
            statistics = statistics.pooled(self.channels)
        size = features // len(statistics.mean)
        mean = np.repeat(statistics.mean, size)
        return {
            "mean_": mean if self.with_mean else np.zeros_like(mean),
            "scale_": np.repeat(statistics.scale(), size) if self.with_std else np.ones_like(mean),
        }

    def _offset_and_scale(self) -> tuple[Floats, Floats]:
        return self.mean_, self.scale_

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        if not (numbers["scale_"] > 0).all():
            raise ValueError("StandardScaler: expected scale_ > 0")


@dataclasses.dataclass(eq=False)
class MinMaxScaler(_Affine):
    """Between 0 and 1 on the training data: (x - data_min_) / (data_max_ - data_min_).

    Other data may lie outside. A feature that does not vary becomes 0 on the training data.

    Attributes:
        data_min_: The smallest values, shape (features,).
        data_max_: The largest values.

    Example:
        >>> from fastnn.data import MinMaxScaler
        >>> MinMaxScaler().fit([[0.0, 5.0], [4.0, 5.0]]).transform([[2.0, 6.0]])
        array([[0.5, 1. ]])
    """

    data_min_: Floats = number("features")
    data_max_: Floats = number("features")

    def _numbers(self, statistics: RunningStatistics) -> dict[str, Any]:
        return {"data_min_": statistics.minimum, "data_max_": statistics.maximum}

    def _offset_and_scale(self) -> tuple[Floats, Floats]:
        spread = self.data_max_ - self.data_min_
        return self.data_min_, np.where(spread > 0, spread, 1.0)

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        if (numbers["data_max_"] < numbers["data_min_"]).any():
            raise ValueError("MinMaxScaler: expected data_min_ <= data_max_")
