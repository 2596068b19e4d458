"""softmax, log_softmax and logsumexp over the last axis.

The maximum is subtracted first: e^x itself leaves float64 at 710. log_softmax stays
(x - max) - log(sum): at logits of 1e30 even float64 has no room for x - logsumexp(x).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def log_softmax(x: Array) -> Array:
    """Log(e^x / sum e^x)."""
    with np.errstate(invalid="ignore", under="ignore", divide="ignore"):
        centred = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
        return np.asarray(centred - np.log(np.exp(centred).sum(axis=-1, keepdims=True)))


def softmax(x: Array) -> Array:
    """e^x / sum e^x."""
    with np.errstate(invalid="ignore", under="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))


def softmax_vjp(dy: Array, x: Array) -> tuple[Array]:
    """p (dy - sum dy p)."""
    p = softmax(x)
    return (p * (dy - (dy * p).sum(axis=-1, keepdims=True)),)


def log_softmax_vjp(dy: Array, x: Array) -> tuple[Array]:
    """dy - p sum dy."""
    return (dy - softmax(x) * dy.sum(axis=-1, keepdims=True),)


def logsumexp(x: Array) -> Array:
    """Log sum e^x."""
    with np.errstate(invalid="ignore", under="ignore", divide="ignore"):
        maximum = x.max(axis=-1, initial=-np.inf)
        total = np.exp(x - maximum[..., None]).sum(axis=-1)
        return np.asarray(np.where(np.isinf(maximum), maximum, maximum + np.log(total)))


def logsumexp_vjp(dy: Array, x: Array) -> tuple[Array]:
    """p dy."""
    return (softmax(x) * dy[..., None],)
