"""Filling in what is missing: NaN becomes a number that the training data suggest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number, samples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["SimpleImputer"]


def _most_frequent(column: Floats) -> float:
    """The value that occurs most often, the smallest of several."""
    values, counts = np.unique(column, return_counts=True)
    return float(values[counts.argmax()])


_STRATEGIES: dict[str, Callable[[Floats], Any]] = {
    "mean": np.mean,
    "median": np.median,
    "most_frequent": _most_frequent,
}


@dataclasses.dataclass(eq=False)
class SimpleImputer(Transform):
    """NaN becomes the mean, the median or the most frequent value of its feature.

    Leaving out the samples instead is unbiased only if what is missing is missing at random; where
    it is not, that it is missing says something: ``add_indicator`` tells the network.

    Args:
        strategy: ``"mean"``, ``"median"`` or ``"most_frequent"`` (the smallest of several).
        add_indicator: Append a column of 0 and 1 for each feature with missing values in the
            training data.

    Attributes:
        statistics_: What is filled in, shape (features,).
        indicator_: 1 for each feature that gets such a column, else 0.

    Raises:
        ValueError: In ``fit``, if a feature has no value at all.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import SimpleImputer
        >>> imputer = SimpleImputer("median", add_indicator=True)
        >>> imputer.fit_transform([[1.0, 5.0], [np.nan, 6.0], [3.0, 7.0]])
        array([[1., 5., 0.],
               [2., 6., 1.],
               [3., 7., 0.]])

    Source:
        Little, Rubin 2019, "Statistical analysis with missing data", chapters 1 and 4.
    """

    strategy: str = "mean"
    add_indicator: bool = False
    statistics_: Floats = number("features")
    indicator_: Floats = number("features")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in _STRATEGIES:
            raise ValueError(
                f"SimpleImputer: expected strategy to be one of {', '.join(_STRATEGIES)}, got "
                f"{str(self.strategy)[:80]!r}"
            )

    def _check(self, x: ArrayLike) -> Array:
        return samples("SimpleImputer", x, missing=True)

    def _fit(self, x: Array) -> dict[str, Any]:
        data = x.astype(np.float64, copy=False)
        missing = np.isnan(data)
        if missing.all(0).any():
            column = int(missing.all(0).argmax())
            raise ValueError(
                f"SimpleImputer: expected a value in every column, got none in column {column}"
            )
        choose = _STRATEGIES[self.strategy]
        chosen = [choose(column[~gone]) for column, gone in zip(data.T, missing.T, strict=True)]
        return {"statistics_": chosen, "indicator_": missing.any(0) & bool(self.add_indicator)}

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = self.statistics_.shape
        return shape, (shape[0] + int(self.indicator_.sum()),)

    def _apply(self, x: Floats) -> Floats:
        missing = np.isnan(x)
        filled = np.where(missing, self.statistics_, x)
        return np.concatenate([filled, missing[:, self.indicator_ == 1]], axis=1)

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        if not np.isin(numbers["indicator_"], (0, 1)).all():
            raise ValueError("SimpleImputer: expected indicator_ of 0 and 1")
