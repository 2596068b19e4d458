"""Losses, from their definition; labels are class indices or a distribution per row."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.softmax import log_softmax, softmax

Array = np.ndarray[Any, np.dtype[np.float64]]


def distribution(x: Array, target: np.ndarray[Any, Any]) -> Array:
    """The target as one probability per class."""
    if target.dtype.kind not in "iu":
        return np.asarray(target, np.float64)
    t = np.zeros(x.shape)
    np.put_along_axis(t, target[..., None].astype(np.int64), 1.0, axis=-1)
    return t


def reduce(rows: Array, reduction: str) -> Array:
    """The mean or sum over rows, or all of them."""
    return np.asarray(
        rows.mean() if reduction == "mean" else rows.sum() if reduction == "sum" else rows
    )


def cross_entropy(x: Array, target: np.ndarray[Any, Any], reduction: str = "mean") -> Array:
    """-sum_c t_c log softmax(x)_c per row, 0 log 0 = 0; then the mean or sum over rows."""
    t = distribution(x, target)
    with np.errstate(invalid="ignore"):
        rows = -np.where(t == 0, 0.0, t * log_softmax(x)).sum(axis=-1)
    rows = np.where(np.isnan(x).any(axis=-1), np.nan, rows)
    return reduce(rows, reduction)


def cross_entropy_vjp(
    dy: Array, x: Array, target: np.ndarray[Any, Any], reduction: str = "mean"
) -> tuple[Array, None]:
    """(softmax(x) sum_c t_c - t) dy, divided by the number of rows for the mean."""
    t = distribution(x, target)
    dx = softmax(x) * t.sum(axis=-1, keepdims=True) - t
    if reduction == "none":
        return dx * dy[..., None], None
    return dx * dy / (t.sum(axis=-1).size if reduction == "mean" else 1), None
