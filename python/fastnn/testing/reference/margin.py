"""Margin losses, from their definition: all classes of a row, or all pairs, next to each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.testing.reference.loss import reduce, spread
from fastnn.testing.reference.pointwise_loss import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_vjp,
)

Array = np.ndarray[Any, np.dtype[np.float64]]
Labels = np.ndarray[Any, Any]
Grads = tuple[Array | None, ...]


def _hinge(m: Array, p: int) -> Array:
    return np.maximum(0.0, m) ** p


def _slope(m: Array, p: int) -> Array:
    return np.where(np.isnan(m), m, np.where(m > 0, p * np.maximum(0.0, m) ** (p - 1), 0.0))


def _multi_margin(
    x: Array, target: Labels, p: int, margin: float, weight: Array | None, share: float
) -> tuple[Array, Array]:
    """(loss of each row, its derivative)."""
    label = np.arange(x.shape[-1]) == target[..., None]
    w = share * (np.ones(target.shape) if weight is None else weight[target])[..., None]
    with np.errstate(invalid="ignore"):
        at_label = np.take_along_axis(x, target[..., None], axis=-1)
        m = np.where(label, 0.0, margin - at_label + x)
    slopes = w * _slope(m, p)
    pulls = slopes.sum(axis=-1, keepdims=True)
    return (w * _hinge(m, p)).sum(axis=-1), np.where(label, slopes - pulls, slopes)


def multi_margin_loss(
    x: Array,
    target: Labels,
    weight: Array | None = None,
    p: int = 1,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Array:
    """w_y sum_{c != y} max(0, margin - x_y + x_c)^p / classes."""
    return reduce(_multi_margin(x, target, p, margin, weight, 1 / x.shape[-1])[0], reduction)


def multi_margin_loss_vjp(
    dy: Array,
    x: Array,
    target: Labels,
    weight: Array | None = None,
    p: int = 1,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Grads:
    """Every class that is too near is pushed down, and the label up by their sum."""
    losses, slopes = _multi_margin(x, target, p, margin, weight, 1 / x.shape[-1])
    return slopes * spread(dy, losses, reduction)[..., None], None, None


def multiclass_hinge_loss(
    x: Array, target: Labels, margin: float = 1.0, reduction: str = "mean"
) -> Array:
    """sum_{c != y} max(0, margin - x_y + x_c)."""
    return reduce(_multi_margin(x, target, 1, margin, None, 1.0)[0], reduction)


def multiclass_hinge_loss_vjp(
    dy: Array, x: Array, target: Labels, margin: float = 1.0, reduction: str = "mean"
) -> Grads:
    """As multi_margin_loss, not divided."""
    losses, slopes = _multi_margin(x, target, 1, margin, None, 1.0)
    return slopes * spread(dy, losses, reduction)[..., None], None


def _pairs(x: Array, target: Labels) -> Iterator[tuple[tuple[int, ...], Any, Any, Array]]:
    """(row index, labels, other classes, 1 - (x_label - x_other) of each pair) for each row."""
    for r in np.ndindex(x.shape[:-1]):
        ends = np.flatnonzero(target[r] == -1)
        labels = target[r][: ends[0] if ends.size else None]
        others = np.setdiff1d(np.arange(x.shape[-1]), labels)
        yield r, labels, others, 1 - (x[r][labels, None] - x[r][others])


def multilabel_margin_loss(x: Array, target: Labels, reduction: str = "mean") -> Array:
    """sum_{y label} sum_{c no label} max(0, 1 - (x_y - x_c)) / classes."""
    losses = np.zeros(x.shape[:-1])
    for r, _, _, m in _pairs(x, target):
        losses[r] = _hinge(m, 1).sum() / x.shape[-1]
    return reduce(losses, reduction)


def multilabel_margin_loss_vjp(
    dy: Array, x: Array, target: Labels, reduction: str = "mean"
) -> Grads:
    """Each pair that is too near pushes its class down and its label up."""
    slopes = np.zeros(x.shape)
    for r, labels, others, m in _pairs(x, target):
        slope = _slope(m, 1) / x.shape[-1]
        slopes[r][others] += slope.sum(axis=0)
        np.subtract.at(slopes[r], labels, slope.sum(axis=1))
    return slopes * spread(dy, slopes[..., 0], reduction)[..., None], None


def multilabel_soft_margin_loss(
    x: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> Array:
    """-sum_c w_c (t_c log s(x_c) + (1 - t_c) log s(-x_c)) / classes."""
    each = binary_cross_entropy_with_logits(x, target, weight, reduction="none")
    return reduce(each.mean(axis=-1), reduction)


def multilabel_soft_margin_loss_vjp(
    dy: Array, x: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> Grads:
    """w (s(x) - t) / classes."""
    row = spread(dy, x[..., 0], reduction)[..., None] / x.shape[-1]
    dx = binary_cross_entropy_with_logits_vjp(row, x, target, weight, reduction="none")[0]
    return dx, None, None
