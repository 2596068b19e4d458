"""linear and matmul: the definition, with what follows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference import activation as act
from fastnn.testing.reference.dropout import dropout

Array = np.ndarray[Any, np.dtype[np.float64]]
Activation = str | tuple[str, float] | None

# The activation's name in F.linear, and the oracle with the keyword that its parameter has.
ACTIVATIONS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "relu": ("relu", None, {}),
    "leaky_relu": ("leaky_relu", "negative_slope", {}),
    "elu": ("elu", "alpha", {}),
    "selu": ("selu", None, {}),
    "sigmoid": ("sigmoid", None, {}),
    "tanh": ("tanh", None, {}),
    "softplus": ("softplus", "beta", {}),
    "silu": ("swish", "beta", {}),
    "gelu": ("gelu", None, {}),
    "gelu_tanh": ("gelu", None, {"approximate": "tanh"}),
}


def activate(z: Array, activation: Activation) -> tuple[Array, Array]:
    """act(z) and act'(z)."""
    if activation is None:
        return z, np.ones_like(z)
    name, a = activation if isinstance(activation, tuple) else (activation, None)
    function, keyword, params = ACTIVATIONS[name]
    if a is not None and keyword is not None:
        params = {keyword: a}
    y: Array = getattr(act, function)(z, **params)
    (slope,) = getattr(act, f"{function}_vjp")(np.ones_like(z), z, **params)
    return y, slope


def linear(
    x: Array,
    w: Array,
    b: Array | None = None,
    r: Array | None = None,
    *,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Array:
    """dropout(act(x w^T + b + r))."""
    return dropout(activate(_sum(x, w, b, r), activation)[0], dropout_p)


def _sum(x: Array, w: Array, b: Array | None, r: Array | None) -> Array:
    z = x @ w.T
    z = z if b is None else z + b
    return z if r is None else z + r


def linear_vjp(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    r: Array | None = None,
    *,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> tuple[Array, Array, Array | None, Array | None]:
    """With dz = dropout(dy) act'(z):  dx = dz w,  dw = dz^T x,  db = sum dz,  dr = dz."""
    dz = dropout(dy, dropout_p) * activate(_sum(x, w, b, r), activation)[1]
    count = int(np.prod(x.shape[:-1], dtype=np.int64))
    rows = dz.reshape(count, w.shape[0])
    dw = rows.T @ x.reshape(count, w.shape[1])
    db = None if b is None else rows.sum(axis=0)
    return dz @ w, dw, db, None if r is None else dz


def matmul(a: Array, b: Array) -> Array:
    """y_ij = sum_k a_ik b_kj, leading axes repeated where one of them is 1; vectors are rows of a,
    columns of b."""
    rows, cols = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    y: Array = np.einsum("...ik,...kj->...ij", rows, cols)
    if a.ndim == 1:
        y = y[..., 0, :]
    if b.ndim == 1:
        y = y[..., 0]
    return y


def matmul_vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """da = dy b^T,  db = a^T dy, summed over the axes that were repeated."""
    rows, cols = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    dy = dy[..., None] if b.ndim == 1 else dy
    dy = dy[..., None, :] if a.ndim == 1 else dy
    da = np.einsum("...ij,...kj->...ik", dy, cols)
    db = np.einsum("...ik,...ij->...kj", rows, dy)
    return _sum_to(da, rows.shape).reshape(a.shape), _sum_to(db, cols.shape).reshape(b.shape)


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Summed over the axes that an array of this shape does not have, or has one of."""
    missing = x.ndim - len(shape)
    repeated = [i for i in range(missing, x.ndim) if shape[i - missing] == 1 != x.shape[i]]
    summed: Array = x.sum(axis=(*range(missing), *repeated))
    return summed.reshape(shape)
