"""Layer normalisation, from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

EPS = float(np.float32(1e-5))


def _rows(x: Array, normalized_shape: tuple[int, ...]) -> Array:
    leading = x.shape[: x.ndim - len(normalized_shape)]
    return x.reshape(*leading, int(np.prod(normalized_shape)))


def statistics(
    x: Array, normalized_shape: tuple[int, ...], eps: float = EPS
) -> tuple[Array, Array]:
    """xhat = (x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps), rows flattened."""
    rows = _rows(x, normalized_shape)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return centred * rstd, rstd


def layer_norm(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = EPS,
) -> Array:
    """Xhat w + b."""
    xhat = statistics(x, normalized_shape, eps)[0].reshape(x.shape)
    y = xhat if w is None else xhat * w
    return y if b is None else y + b


def layer_norm_vjp(
    dy: Array,
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = EPS,
) -> tuple[Array, Array | None, Array | None]:
    """With g = dy w: dx = rstd (g - mean(g) - xhat mean(g xhat)), dw = sum dy xhat, db = sum dy."""
    xhat, rstd = statistics(x, normalized_shape, eps)
    flat = _rows(dy, normalized_shape)
    g = flat if w is None else flat * w.reshape(-1)
    mean_g = g.mean(axis=-1, keepdims=True)
    mean_gx = (g * xhat).mean(axis=-1, keepdims=True)
    dx = (rstd * (g - mean_g - xhat * mean_gx)).reshape(x.shape)
    cols = flat.shape[-1]
    dw = (flat * xhat).reshape(-1, cols).sum(axis=0).reshape(normalized_shape)
    db = flat.reshape(-1, cols).sum(axis=0).reshape(normalized_shape)
    return dx, None if w is None else dw, None if b is None else db
