"""Numbers that carry a bound of their error: running error analysis.

An oracle that is made of operators runs on them as it is, and what comes out is how far float32 may
be from it: every operation adds its own rounding to what it makes of its operands' errors, to first
order. For ops that are many operations deep, where no bound can be written down by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from fastnn.testing.compare import U

__all__ = ["Uncertain"]

Array = np.ndarray[Any, Any]
_GEMM = 16 * U  # what the contract allows a product, in |A||B|
_SUM = 4 * U
_ELEMENTARY = 4 * U  # exp and tanh: 2 ULP


class Uncertain(NDArrayOperatorsMixin):
    """Values in float64, and how far a float32 computation of them may be away.

    Example:
        >>> x = Uncertain(np.array([[1.0, 2.0]]))
        >>> y = x @ np.array([[1.0], [1.0]])
        >>> float(y.error[0, 0]) == 16 * 2.0**-24 * 3
        True
    """

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value: Array = np.asarray(value, np.float64)
        self.error: Array = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    @property
    def shape(self) -> Any:
        """That of the values."""
        return self.value.shape

    @property
    def T(self) -> Uncertain:
        """The transpose."""
        return Uncertain(self.value.T, self.error.T)

    def __getitem__(self, index: Any) -> Uncertain:
        return Uncertain(self.value[index], self.error[index])

    def sum(self, axis: int) -> Uncertain:
        """The sum over an axis."""
        terms = np.abs(self.value).sum(axis)
        return Uncertain(self.value.sum(axis), self.error.sum(axis) + _SUM * terms)

    def mean(self, axis: int | tuple[int, ...], keepdims: bool) -> Uncertain:
        """The mean over axes: a sum and a division."""
        terms = np.abs(self.value).mean(axis, keepdims=keepdims)
        error = self.error.mean(axis, keepdims=keepdims) + (_SUM + U) * terms
        return Uncertain(self.value.mean(axis, keepdims=keepdims), error)

    @staticmethod
    def stack(parts: Sequence[Uncertain]) -> Uncertain:
        """Arrays one after the other along the first axis."""
        return Uncertain(
            np.concatenate([p.value for p in parts]), np.concatenate([p.error for p in parts])
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> Any:
        operands = [x if isinstance(x, Uncertain) else Uncertain(x) for x in inputs]
        values = [x.value for x in operands]
        value = ufunc(*values)
        rounding, spread = _RULES[ufunc.__name__]
        error = spread(*values, *(x.error for x in operands), value)
        return Uncertain(value, error + rounding * np.abs(value))


def _matmul(x: Array, z: Array, ex: Array, ez: Array, _: Array) -> Array:
    size = np.abs(x) @ np.abs(z)
    return np.asarray(ex @ np.abs(z) + np.abs(x) @ ez + ex @ ez + _GEMM * size)


# ufunc: its own rounding relative to the result, and what it makes of its operands' errors.
_RULES: dict[str, tuple[float, Callable[..., Any]]] = {
    "add": (U, lambda x, z, ex, ez, y: ex + ez),
    "subtract": (U, lambda x, z, ex, ez, y: ex + ez),
    "multiply": (U, lambda x, z, ex, ez, y: np.abs(z) * ex + np.abs(x) * ez + ex * ez),
    "divide": (U, lambda x, z, ex, ez, y: (ex + np.abs(y) * ez) / np.abs(z)),
    "matmul": (0.0, _matmul),
    "negative": (0.0, lambda x, ex, y: ex),
    "exp": (_ELEMENTARY, lambda x, ex, y: y * ex),
    "tanh": (_ELEMENTARY, lambda x, ex, y: (1 - y * y) * ex + ex * ex),
    "square": (U, lambda x, ex, y: 2 * np.abs(x) * ex + ex * ex),
    "sqrt": (U, lambda x, ex, y: ex / np.maximum(y, np.sqrt(ex))),
    "maximum": (0.0, lambda x, z, ex, ez, y: np.maximum(ex, ez)),
    "greater": (0.0, lambda x, z, ex, ez, y: np.abs(x - z) <= ex + ez),
}
