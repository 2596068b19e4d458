"""The linear layer of several models: the definition, one model after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.linear import linear, linear_vjp

Array = np.ndarray[Any, np.dtype[np.float64]]


def stacked_linear(x: Array, w: Array, b: Array | None = None, **params: Any) -> Array:
    """y_i = act(x_i w_i^T + b_i); x of two axes is the same for all i."""
    each = [x] * len(w) if x.ndim == 2 else x
    biases = [None] * len(w) if b is None else b
    return np.stack([linear(*of, **params) for of in zip(each, w, biases, strict=True)])


def stacked_linear_vjp(
    dy: Array, x: Array, w: Array, b: Array | None = None, **params: Any
) -> tuple[Array, Array, Array | None]:
    """Those of linear for each i; a shared x has the sum of its gradients."""
    each = [x] * len(w) if x.ndim == 2 else x
    biases = [None] * len(w) if b is None else b
    grads = [linear_vjp(*of, **params)[:3] for of in zip(dy, each, w, biases, strict=True)]
    dx = np.stack([g[0] for g in grads])
    dw = np.stack([g[1] for g in grads])
    db = None if b is None else np.stack([np.asarray(g[2]) for g in grads])
    return dx.sum(axis=0) if x.ndim == 2 else dx, dw, db
