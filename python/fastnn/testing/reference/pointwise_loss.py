"""Losses of one element: loss(x, t) and its derivative, from their definition.

Targets and weights are constants: they have no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.activation import sigmoid, softplus
from fastnn.testing.reference.loss import reduce, spread

Array = np.ndarray[Any, np.dtype[np.float64]]
Grads = tuple[Array | None, ...]


def _times(p: Array, y: Array) -> Array:
    """p y, where p = 0 wins over an infinite y."""
    with np.errstate(invalid="ignore"):
        return np.where((p == 0) & np.isinf(y), 0.0, p * y)


def mse_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """(x - t)^2."""
    return reduce((x - target) ** 2, reduction)


def mse_loss_vjp(dy: Array, x: Array, target: Array, reduction: str = "mean") -> Grads:
    """2 (x - t)."""
    return 2 * (x - target) * spread(dy, x, reduction), None


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """|x - t|."""
    return reduce(np.abs(x - target), reduction)


def l1_loss_vjp(dy: Array, x: Array, target: Array, reduction: str = "mean") -> Grads:
    """The sign of x - t."""
    return np.sign(x - target) * spread(dy, x, reduction), None


def smooth_l1_loss(x: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = x - t."""
    d = np.abs(x - target)
    square = 0.5 * d**2 / beta if beta > 0 else d
    return reduce(np.where(d < beta, square, d - 0.5 * beta), reduction)


def smooth_l1_loss_vjp(
    dy: Array, x: Array, target: Array, reduction: str = "mean", beta: float = 1.0
) -> Grads:
    """d / beta where |d| < beta, else the sign of d."""
    d = x - target
    slope = np.where(np.abs(d) < beta, d / beta if beta > 0 else d, np.sign(d))
    return slope * spread(dy, x, reduction), None


def huber_loss(x: Array, target: Array, reduction: str = "mean", delta: float = 1.0) -> Array:
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), with d = x - t."""
    d = np.abs(x - target)
    return reduce(np.where(d < delta, 0.5 * d**2, delta * (d - 0.5 * delta)), reduction)


def huber_loss_vjp(
    dy: Array, x: Array, target: Array, reduction: str = "mean", delta: float = 1.0
) -> Grads:
    """d, at most delta in size."""
    return np.clip(x - target, -delta, delta) * spread(dy, x, reduction), None


def _weight(weight: Array | None) -> Array:
    return np.asarray(1.0 if weight is None else weight)


def binary_cross_entropy_with_logits(
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    """-w (p t log s(x) + (1 - t) log s(-x)), s the sigmoid; -log s(x) is softplus(-x)."""
    rows = _times(target * _weight(pos_weight), softplus(-x)) + _times(1 - target, softplus(x))
    return reduce(_weight(weight) * rows, reduction)


def binary_cross_entropy_with_logits_vjp(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> Grads:
    """w ((1 - t) s(x) - p t s(-x))."""
    slope = (1 - target) * sigmoid(x) - _weight(pos_weight) * target * sigmoid(-x)
    return _weight(weight) * slope * spread(dy, x, reduction), None, None, None


def binary_cross_entropy(
    x: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> Array:
    """-w (t log x + (1 - t) log(1 - x)), a logarithm being at least -100."""
    with np.errstate(divide="ignore", invalid="ignore"):
        yes, no = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    return reduce(-_weight(weight) * (target * yes + (1 - target) * no), reduction)


def binary_cross_entropy_vjp(
    dy: Array, x: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> Grads:
    """w (x - t) / (x (1 - x)), the denominator being at least 1e-12."""
    slope = (x - target) / np.maximum(x * (1 - x), float(np.float32(1e-12)))
    return _weight(weight) * slope * spread(dy, x, reduction), None, None


def kl_div(x: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """t (log t - x), 0 log 0 = 0; ``batchmean`` divides the sum by the rows."""
    t = np.exp(target) if log_target else target
    with np.errstate(divide="ignore", invalid="ignore"):
        log_t = target if log_target else np.log(target)
        rows = np.where((t == 0) & ~np.isnan(x), 0.0, t * (log_t - x))
    mean = "mean" if reduction == "batchmean" else reduction
    return reduce(rows, mean, x.shape[0] if reduction == "batchmean" else None)


def kl_div_vjp(
    dy: Array, x: Array, target: Array, reduction: str = "mean", log_target: bool = False
) -> Grads:
    """-t."""
    t = np.exp(target) if log_target else target
    mean = "mean" if reduction == "batchmean" else reduction
    divisor = x.shape[0] if reduction == "batchmean" else None
    return np.where(np.isnan(x), x, -t) * spread(dy, x, mean, divisor), None


def soft_margin_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """log(1 + e^(-t x))."""
    return reduce(softplus(-target * x), reduction)


def soft_margin_loss_vjp(dy: Array, x: Array, target: Array, reduction: str = "mean") -> Grads:
    """-t s(-t x)."""
    return -target * sigmoid(-target * x) * spread(dy, x, reduction), None


def hinge_loss(x: Array, target: Array, margin: float = 1.0, reduction: str = "mean") -> Array:
    """max(0, margin - t x)."""
    return reduce(np.maximum(0.0, margin - target * x), reduction)


def hinge_loss_vjp(
    dy: Array, x: Array, target: Array, margin: float = 1.0, reduction: str = "mean"
) -> Grads:
    """-t where t x < margin, else 0."""
    m = margin - target * x
    slope = np.where(np.isnan(m), m, np.where(m > 0, -target, 0.0))
    return slope * spread(dy, x, reduction), None
