"""Dropout: the mask of the counter, times the scale of the rounded probability."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.random import dropout_mask, threshold

Array = np.ndarray[Any, np.dtype[np.float64]]


def dropout(
    x: Array, p: float = 0.5, training: bool = True, *, seed: int = 0, offset: int = 0
) -> Array:
    """x / (1 - p) where kept, else 0, with p rounded to a multiple of 2^-16."""
    if not training or p == 0:
        return x
    kept = dropout_mask(x.size, p, seed, offset).reshape(x.shape)
    t = threshold(p)
    return np.where(kept, x * (65536.0 / (65536.0 - t) if t < 65536 else 0.0), 0.0)


def dropout_vjp(
    dy: Array, x: Array, p: float = 0.5, training: bool = True, *, seed: int = 0, offset: int = 0
) -> tuple[Array]:
    """The same map applied to dy."""
    return (dropout(dy, p, training, seed=seed, offset=offset),)
