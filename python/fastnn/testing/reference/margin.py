"""Margin losses, from their definition: plain loops over rows and pairs of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def _rows(x: Array, target: Labels) -> Iterator[tuple[tuple[int, ...], Array, Any]]:
    for r in np.ndindex(x.shape[:-1]):
        yield r, x[r], target[r]


def _hinge(m: Array, p: int) -> Array:
    return np.maximum(0.0, m) ** p


def _slope(m: Array, p: int) -> Array:
    return np.where(np.isnan(m), m, np.where(m > 0, p * np.maximum(0.0, m) ** (p - 1), 0.0))


def _multi_margin(
    x: Array, target: Labels, p: int, margin: float, weight: Array | None, share: float
) -> tuple[Array, Array]:
    """(loss of each row, its derivative)."""
    losses, slopes = np.zeros(x.shape[:-1]), np.zeros(x.shape)
    for r, row, y in _rows(x, target):
        w = share * (1.0 if weight is None else weight[y])
        with np.errstate(invalid="ignore"):
            m = np.where(np.arange(row.size) == y, 0.0, margin - row[y] + row)
        losses[r] = w * _hinge(m, p).sum()
        slopes[r] = w * _slope(m, p)
        slopes[(*r, y)] -= w * _slope(m, p).sum()
    return losses, slopes


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


def _multilabel(x: Array, target: Labels, use: Callable[..., None]) -> None:
    """use(row index, label, other class, 1 - (x_label - x_other)) for the pairs of each row."""
    for r, row, labels in _rows(x, target):
        listed = [int(y) for y in labels[: [*labels, -1].index(-1)]]
        for y in listed:
            for c in set(range(row.size)) - set(listed):
                use(r, y, c, 1 - (row[y] - row[c]))


def multilabel_margin_loss(x: Array, target: Labels, reduction: str = "mean") -> Array:
    """sum_{y label} sum_{c no label} max(0, 1 - (x_y - x_c)) / classes."""
    losses = np.zeros(x.shape[:-1])

    def add(r: tuple[int, ...], y: int, c: int, m: float) -> None:
        losses[r] += np.maximum(0.0, m) / x.shape[-1]

    _multilabel(x, target, add)
    return reduce(losses, reduction)


def multilabel_margin_loss_vjp(
    dy: Array, x: Array, target: Labels, reduction: str = "mean"
) -> Grads:
    """Each pair that is too near pushes its class down and its label up."""
    slopes = np.zeros(x.shape)

    def add(r: tuple[int, ...], y: int, c: int, m: float) -> None:
        slope = m if np.isnan(m) else float(m > 0)
        slopes[(*r, c)] += slope / x.shape[-1]
        slopes[(*r, y)] -= slope / x.shape[-1]

    _multilabel(x, target, add)
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
