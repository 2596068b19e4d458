"""PCA, and whitening in its two forms. Eigenvectors come from a QR and an SVD of centred data.

The covariance is never formed: its rounding would hide directions of small variance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number

__all__ = ["PCA", "ZCA"]


def _principal(op: str, x: Array, components: int | None) -> dict[str, Any]:
    """Mean, directions of most variance (rows) and variances along them, divided by n - 1."""
    n, features = x.shape
    most = min(n, features)
    if n < 2:
        raise ValueError(f"{op}: expected at least 2 samples, got {n}")
    if components is not None and components > most:
        raise ValueError(
            f"{op}: expected n_components <= {most}, the smaller side of x {x.shape}, got "
            f"{components}"
        )
    mean = x.mean(0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(np.linalg.qr(x - mean, mode="r"), full_matrices=False)
    rank = singular > singular[0] * max(n, features) * np.finfo(np.float64).eps
    variance = np.where(rank, singular, 0.0) ** 2 / (n - 1)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    rows = rows * np.where(largest < 0, -1.0, 1.0)
    return {
        "mean_": mean,
        "components_": rows[:components],
        "explained_variance_": variance[:components],
    }


@dataclasses.dataclass(eq=False)
class _Decorrelate(Transform):
    mean_: Floats = number("features")
    components_: Floats = number("components", "features")
    explained_variance_: Floats = number("components")

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        if (numbers["explained_variance_"] < 0).any():
            raise ValueError(f"{self._name}: expected explained_variance_ >= 0")

    def _check_eps(self, eps: float) -> None:
        if not 0 <= eps < np.inf:
            raise ValueError(f"{self._name}: expected eps >= 0, got {eps}")

    def _deviation(self, eps: float) -> Floats:
        """sqrt(variance + eps), and infinity where that is 0: such a direction is dropped."""
        deviation = np.sqrt(self.explained_variance_ + eps)
        return np.where(deviation > 0, deviation, np.inf)


@dataclasses.dataclass(eq=False)
class PCA(_Decorrelate):
    """Coordinates along the directions of most variance: (x - mean_) components_^T.

    They are uncorrelated. With ``whiten`` each is divided by sqrt(explained_variance_ + eps), which
    makes all variances 1 (nearly, where eps is not small against them).

    Args:
        n_components: How many directions to keep; default: all.
        whiten: Whether to scale to unit variance.
        eps: Added to the variances in whitening, so that directions of noise are not blown up. With
            ``eps=0`` directions without variance become 0.

    Attributes:
        mean_: Means, shape (features,).
        components_: Directions, shape (components, features), of length 1; the entry that is
            largest in magnitude is positive.
        explained_variance_: Eigenvalues of the covariance (divided by n - 1), largest first; 0
            beyond the rank of the data.

    Raises:
        ValueError: In ``fit``, if there are fewer than 2 samples or less than ``n_components``
            directions.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import PCA
        >>> x = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.2]])
        >>> pca = PCA(n_components=1).fit(x)
        >>> print(pca.components_.round(2), pca.transform(x).round(2).ravel())
        [[0.7  0.71]] [-1.45 -0.04  1.38  0.11]

    Source:
        Pearson 1901, "On lines and planes of closest fit"; signs as in scikit-learn.
    """

    n_components: int | None = None
    whiten: bool = False
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        n = self.n_components
        if n is not None and (type(n) is not int or n < 1):
            raise ValueError(f"PCA: expected n_components >= 1 or None, got {n}")
        self._check_eps(self.eps)

    def _fit(self, x: Array) -> dict[str, Any]:
        return _principal("PCA", x, self.n_components)

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.mean_.shape, self.explained_variance_.shape

    def _apply(self, x: Floats) -> Floats:
        scores: Floats = (x - self.mean_) @ self.components_.T
        return scores / self._deviation(self.eps) if self.whiten else scores

    def _invert(self, x: Floats) -> Floats:
        if self.whiten:
            deviation = self._deviation(self.eps)
            x = x * np.where(np.isinf(deviation), 0.0, deviation)
        result: Floats = x @ self.components_ + self.mean_
        return result


@dataclasses.dataclass(eq=False)
class ZCA(_Decorrelate):
    """Whitening that stays closest to the data: rotate, scale, rotate back.

        y = (x - mean_) V^T diag(1 / sqrt(explained_variance_ + eps)) V,   V = components_

    The result has the axes of x, so whitened images still look like images.

    Args:
        eps: Added to the variances; see :class:`PCA`.

    Attributes:
        mean_: Means, shape (features,).
        components_: Directions, as in :class:`PCA`.
        explained_variance_: Variances along them.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import ZCA
        >>> x = np.random.default_rng(0).normal(size=(500, 2)) @ [[3.0, 1.0], [0.0, 1.0]]
        >>> np.cov(ZCA(eps=0.0).fit_transform(x).T).round(6) + 0.0
        array([[1., 0.],
               [0., 1.]])

    Source:
        Bell, Sejnowski 1997, "The 'independent components' of natural scenes are edge filters";
        Krizhevsky 2009, "Learning multiple layers of features from tiny images", appendix A.
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_eps(self.eps)

    def _fit(self, x: Array) -> dict[str, Any]:
        return _principal("ZCA", x, None)

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.mean_.shape, self.mean_.shape

    def _apply(self, x: Floats) -> Floats:
        scores = (x - self.mean_) @ self.components_.T / self._deviation(self.eps)
        result: Floats = scores @ self.components_
        return result
