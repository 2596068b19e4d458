"""Trained activations, maxout and hardtanh: definitions, and derivatives times dy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.testing.reference import activation

Array = np.ndarray[Any, np.dtype[np.float64]]


def spread(a: Array, x: Array) -> Array:
    """The parameter of each element: one for all, or one for each index of axis 1."""
    if a.size == 1:
        return np.broadcast_to(a.reshape(()), x.shape)
    return np.broadcast_to(a.reshape(-1, *(1,) * (x.ndim - 2)), x.shape)


def gather(each: Array, a: Array) -> Array:
    """The sum over the elements of each parameter."""
    if a.size == 1:
        return np.asarray(each.sum()).reshape(a.shape)
    return np.asarray(each.sum(axis=tuple(i for i in range(each.ndim) if i != 1)))


def prelu(x: Array, weight: Array) -> Array:
    """x for x > 0, else a x."""
    return activation.leaky_relu(x, spread(weight, x))  # type: ignore[arg-type]


def prelu_slope(x: Array, weight: Array) -> Array:
    """df/da = min(0, x)."""
    return np.minimum(x, 0.0)


def swish(x: Array, beta: Array) -> Array:
    """x s(beta x)."""
    return activation.swish(x, spread(beta, x))  # type: ignore[arg-type]


def swish_slope(x: Array, beta: Array) -> Array:
    """df/dbeta = x^2 s(z) s(-z) with z = beta x."""
    z = spread(beta, x) * x
    return x * x * activation.sigmoid(z) * activation.sigmoid(-z)


def _vjp(
    vjp: Callable[..., tuple[Array]], slope: Callable[[Array, Array], Array]
) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    def both(dy: Array, x: Array, a: Array) -> tuple[Array, Array]:
        return vjp(dy, x, spread(a, x))[0], gather(dy * slope(x, a), a)

    return both


prelu_vjp = _vjp(activation.leaky_relu_vjp, prelu_slope)
swish_vjp = _vjp(activation.swish_vjp, swish_slope)


def maxout(x: Array, pieces: int = 2) -> Array:
    """max over x[..., j n + i], j = 0 .. pieces - 1, for each of n = last axis / pieces."""
    return np.asarray(x.reshape(*x.shape[:-1], pieces, x.shape[-1] // pieces).max(axis=-2))


def maxout_vjp(dy: Array, x: Array, pieces: int = 2) -> tuple[Array]:
    """dy for the first largest piece, or the first NaN; 0 for the others."""
    parts = x.reshape(*x.shape[:-1], pieces, x.shape[-1] // pieces)
    first = parts.argmax(axis=-2)  # the first NaN counts as largest
    dx = np.zeros(parts.shape)
    np.put_along_axis(dx, first[..., None, :], dy[..., None, :], axis=-2)
    return (dx.reshape(x.shape),)


def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """min(max(x, min_val), max_val)."""
    return np.clip(x, min_val, max_val)


def hardtanh_vjp(dy: Array, x: Array, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array]:
    """dy for min_val < x < max_val, else 0."""
    dx = np.where((min_val < x) & (x < max_val), dy, 0.0)
    return (np.where(np.isnan(x) | np.isnan(dy), np.nan, dx),)
