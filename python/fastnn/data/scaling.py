"""Scaling of features: fitted on the training part, kept with the model, repeated in predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Scaling"]

KINDS = ("standard", "minmax", "none")
Floats = np.ndarray[Any, np.dtype[np.float32]]


class Scaling:
    """(x - offset) * factor for each feature.

    Attributes:
        kind: ``"standard"`` (mean 0, variance 1), ``"minmax"`` (0 to 1) or ``"none"``.
        offset: float64, one per feature.
        factor: float64, one per feature; 1 where a feature does not vary.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import Scaling
        >>> scaling = Scaling.fit("minmax", np.array([[0.0, 5.0], [4.0, 5.0]]))
        >>> scaling.apply(np.array([[2.0, 6.0]]))
        array([[0.5, 1. ]], dtype=float32)
    """

    def __init__(self, kind: str, offset: ArrayLike, factor: ArrayLike) -> None:
        if kind not in KINDS:
            raise ValueError(
                f"Scaling: expected kind to be one of {', '.join(KINDS)}, got {kind!r}"
            )
        self.kind = kind
        self.offset = np.asarray(offset, np.float64)
        self.factor = np.asarray(factor, np.float64)
        if self.offset.ndim != 1 or self.offset.shape != self.factor.shape:
            raise ValueError(
                "Scaling: expected offset and factor of one shape (features,), got "
                f"{self.offset.shape} and {self.factor.shape}"
            )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.factor).all()):
            raise ValueError("Scaling: expected finite offsets and factors, got NaN or infinity")

    @classmethod
    def fit(cls, kind: str, x: ArrayLike) -> Scaling:
        """Choose offset and factor for the features of x, shape (n, features).

        Raises:
            ValueError: If the kind is unknown or x is not two-dimensional with samples.
        """
        data = np.asarray(x, np.float64)
        if data.ndim != 2 or len(data) == 0:
            raise ValueError(f"Scaling: expected x of shape (n, features), got {data.shape}")
        features = data.shape[1]
        if kind == "minmax":
            offset, spread = data.min(0), np.ptp(data, axis=0)
        elif kind == "standard":
            offset, spread = data.mean(0), data.std(0)
            spread = np.where(spread > 1e-12 * np.abs(offset), spread, 0.0)
        else:
            offset, spread = np.zeros(features), np.ones(features)
        return cls(kind, offset, 1.0 / np.where(spread > 0, spread, 1.0))

    def apply(self, x: ArrayLike) -> Floats:
        """The scaled features, float32.

        Raises:
            ValueError: If x has another number of features.
        """
        data = np.asarray(x)
        if data.ndim != 2 or data.shape[1] != len(self.offset):
            raise ValueError(
                f"Scaling: expected x of shape (n, {len(self.offset)}), got {data.shape}"
            )
        scaled: Floats = ((data - self.offset) * self.factor).astype(np.float32)
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` takes; JSON holds it without loss."""
        return {
            "kind": self.kind,
            "offset": self.offset.tolist(),
            "factor": self.factor.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Scaling:
        """The scaling that :meth:`to_dict` described.

        Raises:
            ValueError: If the description is not one.
        """
        if not isinstance(state, dict) or state.keys() != {"kind", "offset", "factor"}:
            raise ValueError("Scaling: expected the keys kind, offset and factor")
        try:
            return cls(state["kind"], state["offset"], state["factor"])
        except TypeError:
            raise ValueError("Scaling: expected lists of numbers") from None
