"""Losses, from their definition; classes are indices or a distribution per row."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.softmax import log_softmax, softmax

Array = np.ndarray[Any, np.dtype[np.float64]]
AnyArray = np.ndarray[Any, Any]


def reduce(losses: Array, reduction: str, divisor: float | None = None) -> Array:
    """The mean or sum of the losses, or all of them; the mean divides by ``divisor``."""
    if reduction == "none":
        return losses
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return np.asarray(losses.sum() / _divisor(losses, reduction, divisor))


def spread(dy: Array, losses: Array, reduction: str, divisor: float | None = None) -> Array:
    """The gradient of each loss, given that of what :func:`reduce` returned."""
    return dy * np.ones(losses.shape) / _divisor(losses, reduction, divisor)


def _divisor(losses: Array, reduction: str, divisor: float | None) -> np.float64:
    mean = losses.size if divisor is None else divisor
    return np.float64(mean if reduction == "mean" else 1.0)


# ---- classes -------------------------------------------------------------------------------------


def targets(
    x: Array, target: AnyArray, weight: Array | None, ignore_index: int, smoothing: float
) -> tuple[Array, float]:
    """(t, the divisor of the mean): rows of w_c ((1 - smoothing) q_c + smoothing / classes).

    A mean over labels divides by the sum of their weights, one over distributions by the rows.
    """
    classes = x.shape[-1]
    w = np.ones(classes) if weight is None else weight
    if target.dtype.kind not in "iu":
        t = w * ((1 - smoothing) * target + smoothing / classes)
        return t, float(np.prod(x.shape[:-1]))
    kept = target != ignore_index
    labels = np.where(kept, target, 0)
    q = (labels[..., None] == np.arange(classes)).astype(np.float64)
    t = kept[..., None] * w * ((1 - smoothing) * q + smoothing / classes)
    return t, float((kept * w[labels]).sum())


def cross_entropy(
    x: Array,
    target: AnyArray,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """-sum_c t_c log softmax(x)_c per row, 0 log 0 = 0; then the mean or sum over rows."""
    t, divisor = targets(x, target, weight, ignore_index, label_smoothing)
    with np.errstate(invalid="ignore"):
        rows = -np.where(t == 0, 0.0, t * log_softmax(x)).sum(axis=-1)
    rows = np.where(np.isnan(x).any(axis=-1) & (t != 0).any(axis=-1), np.nan, rows)
    return reduce(rows, reduction, divisor)


def cross_entropy_vjp(
    dy: Array,
    x: Array,
    target: AnyArray,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, None, None]:
    """(softmax(x) sum_c t_c - t) dy, divided as the mean is."""
    t, divisor = targets(x, target, weight, ignore_index, label_smoothing)
    dx = softmax(x) * t.sum(axis=-1, keepdims=True) - t
    return dx * spread(dy, t[..., 0], reduction, divisor)[..., None], None, None


def nll_loss(
    x: Array,
    target: AnyArray,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """-w_y x_y per row, y its label."""
    t, divisor = targets(x, target, weight, ignore_index, 0.0)
    with np.errstate(invalid="ignore"):
        rows = -np.where(t == 0, 0.0, t * x).sum(axis=-1)
    return reduce(rows, reduction, divisor)


def nll_loss_vjp(
    dy: Array,
    x: Array,
    target: AnyArray,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Array, None, None]:
    """-w_y at the label, else 0."""
    t, divisor = targets(x, target, weight, ignore_index, 0.0)
    return -t * spread(dy, t[..., 0], reduction, divisor)[..., None], None, None
