"""Filling in what is missing: NaN becomes a number that the training data suggest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number, samples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["GaussianImputer", "SimpleImputer"]


def _most_frequent(column: Floats) -> float:
    """The value that occurs most often, the smallest of several."""
    values, counts = np.unique(column, return_counts=True)
    return float(values[counts.argmax()])


_STRATEGIES: dict[str, Callable[[Floats], Any]] = {
    "mean": np.mean,
    "median": np.median,
    "most_frequent": _most_frequent,
}


class Imputer(Transform):
    """What imputers share: NaN is taken, and maybe told of in a column for each such feature."""

    add_indicator: bool
    indicator_: Floats

    def _check(self, x: ArrayLike) -> Array:
        return samples(self._name, x, missing=True)

    def _missing(self, x: Floats) -> Array:
        """Where training data are NaN; no column may be so altogether."""
        missing = np.isnan(x)
        if missing.all(0).any():
            column = int(missing.all(0).argmax())
            raise ValueError(
                f"{self._name}: expected a value in every column, got none in column {column}"
            )
        return missing

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        features = len(self.indicator_)
        return (features,), (features + int(self.indicator_.sum()),)

    def _fill(self, x: Floats, missing: Array) -> Floats:
        raise NotImplementedError

    def _apply(self, x: Floats) -> Floats:
        missing = np.isnan(x)
        return np.concatenate([self._fill(x, missing), missing[:, self.indicator_ == 1]], axis=1)

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        if not np.isin(numbers["indicator_"], (0, 1)).all():
            raise ValueError(f"{self._name}: expected indicator_ of 0 and 1")


@dataclasses.dataclass(eq=False)
class SimpleImputer(Imputer):
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

    def _fit(self, x: Array) -> dict[str, Any]:
        data = x.astype(np.float64, copy=False)
        missing = self._missing(data)
        choose = _STRATEGIES[self.strategy]
        chosen = [choose(column[~gone]) for column, gone in zip(data.T, missing.T, strict=True)]
        return {"statistics_": chosen, "indicator_": missing.any(0) & bool(self.add_indicator)}

    def _fill(self, x: Floats, missing: Array) -> Floats:
        return np.where(missing, self.statistics_, x)


@dataclasses.dataclass(eq=False)
class GaussianImputer(Imputer):
    """NaN becomes what a linear model says of it, given the features that are there.

    Samples are taken for draws of a normal distribution, whose mean m and covariance S are fitted
    by expectation and maximisation, so that every value there is counts. The missing part M of a
    sample becomes its expectation, m_M + S_MO S_OO^-1 (x_O - m_O), O being what is there: the
    regression of M on O. Unlike a mean, it keeps how features depend on each other.

    Args:
        add_indicator: As in :class:`SimpleImputer`.
        max_iter: Steps of the fit, at most.
        tol: The fit ends when no filled value moves by more than this in standard deviations.

    Attributes:
        mean_: m, shape (features,).
        covariance_: S, shape (features, features).
        indicator_: As in :class:`SimpleImputer`.

    Raises:
        ValueError: For other options; in ``fit``, if a feature has no value at all.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import GaussianImputer
        >>> x = [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, np.nan]]  # twice as much
        >>> GaussianImputer().fit_transform(x)[3].round(3)
        array([4., 8.])

    Source:
        Dempster, Laird, Rubin 1977, "Maximum likelihood from incomplete data via the EM
        algorithm"; Little, Rubin 2019, "Statistical analysis with missing data", chapter 11.
    """

    add_indicator: bool = False
    max_iter: int = 100
    tol: float = 1e-6
    mean_: Floats = number("features")
    covariance_: Floats = number("features", "features")
    indicator_: Floats = number("features")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.max_iter, int) and self.max_iter >= 1):
            raise ValueError(f"GaussianImputer: expected max_iter >= 1, got {self.max_iter!r}")
        if not (isinstance(self.tol, (int, float)) and self.tol > 0):
            raise ValueError(f"GaussianImputer: expected tol > 0, got {self.tol!r}")

    def _fit(self, x: Array) -> dict[str, Any]:
        data = x.astype(np.float64, copy=False)
        missing = self._missing(data)
        mean, unit = np.nanmean(data, axis=0), np.nanstd(data, axis=0)
        filled = np.where(missing, mean, data)
        covariance = (filled - mean).T @ (filled - mean) / len(data)
        for _ in range(self.max_iter):
            before = filled
            filled, doubt = _expected(data, missing, mean, covariance)
            mean = filled.mean(0)
            covariance = (filled - mean).T @ (filled - mean) / len(data) + doubt
            if not (np.abs(filled - before) > self.tol * unit).any():
                break
        return {
            "mean_": mean,
            "covariance_": covariance,
            "indicator_": missing.any(0) & bool(self.add_indicator),
        }

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        super()._check_numbers(numbers)
        if (np.diag(numbers["covariance_"]) < 0).any():
            raise ValueError("GaussianImputer: expected covariance_ with variances >= 0")

    def _fill(self, x: Floats, missing: Array) -> Floats:
        return _expected(x, missing, self.mean_, self.covariance_)[0]


def _expected(x: Floats, missing: Array, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Samples with their missing parts as expected, and the mean covariance of these parts."""
    filled, doubt = x.copy(), np.zeros_like(covariance)
    unit = np.sqrt(np.maximum(np.diag(covariance), 0))
    unit[unit == 0] = 1  # a constant tells nothing, and is what it is
    scaled = covariance / np.outer(unit, unit)
    patterns, which = np.unique(missing, axis=0, return_inverse=True)
    for i, gone in enumerate(patterns):
        if not gone.any():
            continue
        rows, known = np.flatnonzero(which.ravel() == i), ~gone
        # Features that repeat each other make it singular, which a pseudo-inverse does not mind.
        inverse = np.linalg.pinv(scaled[np.ix_(known, known)], rcond=1e-10, hermitian=True)
        slope = inverse @ scaled[np.ix_(known, gone)]
        deviations = (x[np.ix_(rows, known)] - mean[known]) / unit[known]
        filled[np.ix_(rows, gone)] = mean[gone] + (deviations @ slope) * unit[gone]
        left = scaled[np.ix_(gone, gone)] - scaled[np.ix_(gone, known)] @ slope
        doubt[np.ix_(gone, gone)] += len(rows) / len(x) * left * np.outer(unit[gone], unit[gone])
    return filled, doubt
