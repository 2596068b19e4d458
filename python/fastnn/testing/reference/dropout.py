"""Dropout and its relatives: what the counter draws, times what the textbook does with it."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from fastnn.testing.reference.random import blocks, dropout_mask, threshold

Array = np.ndarray[Any, np.dtype[np.float64]]

SATURATION = -1.7580993408473766  # SELU's lower limit, -lambda alpha


def keep_probability(p: float) -> float:
    """1 - p, with p rounded to a multiple of 2^-16."""
    return 1 - threshold(p) / 65536


def mask(
    shape: tuple[int, ...], axes: int, p: float, mode: str, seed: int = 0, offset: int = 0
) -> Array:
    """The factors of elements that share a draw below the first `axes` axes."""
    leading = shape[:axes]
    kept = dropout_mask(int(np.prod(leading, dtype=np.int64)), p, seed, offset)
    keep = keep_probability(p)
    value = 1.0 if mode == "vanilla" else 1 / keep if keep > 0 else 0.0
    factors = np.where(kept, value, 0.0).reshape(leading + (1,) * (len(shape) - axes))
    return np.broadcast_to(factors, shape)


def _dropped(x: Array, axes: int, p: float, training: bool, mode: str, draw: Any) -> Array:
    if not training:
        return x * keep_probability(p) if mode == "vanilla" else x
    factors = mask(x.shape, axes, p, mode, **draw) if p > 0 else np.ones(x.shape)
    return np.where(factors == 0, 0.0, x * factors)


def dropout(
    x: Array, p: float = 0.5, training: bool = True, mode: str = "inverted", **draw: int
) -> Array:
    """x times a mask of zeros and 1 / (1 - p) (inverted), or of zeros and ones (vanilla)."""
    return _dropped(x, x.ndim, p, training, mode, draw)


def dropout_vjp(
    dy: Array, x: Array, p: float = 0.5, training: bool = True, mode: str = "inverted", **draw: int
) -> tuple[Array]:
    """The same map applied to dy."""
    return (dropout(dy, p, training, mode, **draw),)


def dropout1d(x: Array, p: float = 0.5, training: bool = True) -> Array:
    """Whole rows (channels) of the last axis."""
    return _dropped(x, x.ndim - 1, p, training, "inverted", {})


def dropout1d_vjp(dy: Array, x: Array, p: float = 0.5, training: bool = True) -> tuple[Array]:
    """The same map applied to dy."""
    return (dropout1d(dy, p, training),)


def dropout2d(x: Array, p: float = 0.5, training: bool = True) -> Array:
    """Whole planes (channels) of the last two axes."""
    return _dropped(x, x.ndim - 2, p, training, "inverted", {})


def dropout2d_vjp(dy: Array, x: Array, p: float = 0.5, training: bool = True) -> tuple[Array]:
    """The same map applied to dy."""
    return (dropout2d(dy, p, training),)


def stochastic_depth(
    x: Array, p: float, mode: str, training: bool = True, scaling: str = "inverted"
) -> Array:
    """All rows, or each row by itself."""
    return _dropped(x, 1 if mode == "row" else 0, p, training, scaling, {})


def stochastic_depth_vjp(
    dy: Array, x: Array, p: float, mode: str, training: bool = True, scaling: str = "inverted"
) -> tuple[Array]:
    """The same map applied to dy."""
    return (stochastic_depth(dy, p, mode, training, scaling),)


def _alpha(p: float) -> tuple[float, float]:
    rate = 1 - keep_probability(p)
    if rate == 1:
        return 0.0, 0.0
    a = ((1 - rate) * (1 + rate * SATURATION**2)) ** -0.5
    return a, -a * SATURATION * rate


def alpha_dropout(x: Array, p: float = 0.5, training: bool = True) -> Array:
    """a (x where kept, else SELU's lower limit) + b."""
    if not training or p == 0:
        return x
    a, b = _alpha(p)
    kept = dropout_mask(x.size, p, 0, 0).reshape(x.shape)
    return a * np.where(kept, x, SATURATION) + b


def alpha_dropout_vjp(dy: Array, x: Array, p: float = 0.5, training: bool = True) -> tuple[Array]:
    """a dy where kept."""
    if not training or p == 0:
        return (dy,)
    kept = dropout_mask(x.size, p, 0, 0).reshape(x.shape)
    return (np.where(kept, _alpha(p)[0] * dy, 0.0),)


def standard_normal(shape: tuple[int, ...], seed: int = 0, offset: int = 0) -> Array:
    """The inverse distribution function of the words' 23 lower bits, signed by their top bit."""
    n = int(np.prod(shape, dtype=np.int64))
    words = blocks(-(-n // 4), "dropout", offset, seed).reshape(-1)[:n]
    q = ((words >> np.uint32(8) & np.uint32(0x7FFFFF)) + 0.5) * 2.0**-23
    normal = NormalDist()
    size = np.array([-normal.inv_cdf(v / 2) for v in q], np.float64)
    return np.where(words >> np.uint32(31), -size, size).reshape(shape)


def gaussian_dropout(x: Array, p: float = 0.5, training: bool = True) -> Array:
    """x (1 + sqrt(p / (1 - p)) z)."""
    if not training or p == 0:
        return x
    return x * (1 + math.sqrt(p / (1 - p)) * standard_normal(x.shape))


def gaussian_dropout_vjp(
    dy: Array, x: Array, p: float = 0.5, training: bool = True
) -> tuple[Array]:
    """The same map applied to dy."""
    return (gaussian_dropout(dy, p, training),)


def poisson(shape: tuple[int, ...], rate: float, seed: int = 0, offset: int = 0) -> Array:
    """Numbers of spikes: the inverse distribution function at u of 24 bits."""
    n = int(np.prod(shape, dtype=np.int64))
    words = blocks(-(-n // 4), "dropout", offset, seed).reshape(-1)[:n]
    k = np.arange(int(rate + 12 * math.sqrt(rate)) + 64)
    pmf = [math.exp(v * math.log(rate) - rate - math.lgamma(v + 1)) for v in k.tolist()]
    thresholds = np.floor(np.cumsum(pmf) * 2**24 + 0.5)
    counts = np.searchsorted(thresholds, (words >> np.uint32(8)).astype(float), side="right")
    return counts.astype(np.float64).reshape(shape)


def poisson_dropout(x: Array, p: float = 0.5, training: bool = True) -> Array:
    """x k / rate, with rate (1 - p) / p."""
    if not training or p == 0:
        return x
    rate = (1 - p) / p
    return x * (poisson(x.shape, rate) / rate)


def poisson_dropout_vjp(dy: Array, x: Array, p: float = 0.5, training: bool = True) -> tuple[Array]:
    """The same map applied to dy."""
    return (poisson_dropout(dy, p, training),)


def _weights(w: Array, p: float, training: bool, mode: str) -> Array:
    """The factors of the weights."""
    if p == 0:
        return np.ones(w.shape)
    if training:
        return mask(w.shape, w.ndim, p, mode)
    return np.full(w.shape, 1.0 if mode == "inverted" else keep_probability(p))


def mask_variance(p: float, mode: str) -> float:
    """Of one factor."""
    keep = keep_probability(p)
    if mode == "vanilla":
        return keep * (1 - keep)
    return (1 - keep) / keep if keep > 0 else 0.0


def drop_connect(
    x: Array,
    w: Array,
    b: Array | None = None,
    p: float = 0.5,
    training: bool = True,
    mode: str = "inverted",
    inference: str = "mean",
) -> Array:
    """x (M o W)^T + b; in evaluation its mean, or a normal draw with its mean and variance."""
    mean = x @ (_weights(w, p, training, mode) * w).T + (0.0 if b is None else b)
    if training or inference == "mean" or p == 0:
        return np.asarray(mean)
    variance = mask_variance(p, mode) * (x * x) @ (w * w).T
    return np.asarray(mean + np.sqrt(variance) * standard_normal(mean.shape))


def drop_connect_vjp(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    p: float = 0.5,
    training: bool = True,
    mode: str = "inverted",
    inference: str = "mean",
) -> tuple[Array | None, ...]:
    """Those of a layer with weights M o W, plus the variance's, dy z / (2 sqrt(variance))."""
    factors = _weights(w, p, training, mode)
    count = int(np.prod(x.shape[:-1], dtype=np.int64))
    rows, dy_rows = x.reshape(count, x.shape[-1]), dy.reshape(count, w.shape[0])
    dx, dw = dy_rows @ (factors * w), factors * (dy_rows.T @ rows)
    if not training and inference == "sample" and p > 0:
        factor = mask_variance(p, mode)
        variance = factor * (rows * rows) @ (w * w).T
        z = standard_normal(dy_rows.shape)
        slope = np.divide(z, 2 * np.sqrt(variance), out=np.zeros_like(z), where=variance > 0)
        dv = factor * dy_rows * slope
        dx, dw = dx + 2 * rows * (dv @ (w * w)), dw + 2 * w * (dv.T @ (rows * rows))
    return dx.reshape(x.shape), dw, None if b is None else dy_rows.sum(axis=0)
