"""Rows by index."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.int64]]


def embedding(index: Index, w: Array, padding_idx: int | None = None) -> Array:
    """w[index]."""
    return np.asarray(w[index])


def embedding_vjp(
    dy: Array, index: Index, w: Array, padding_idx: int | None = None
) -> tuple[None, Array]:
    """The sum of dy over the places of each row; nothing for the padding's."""
    dw = np.zeros(w.shape)
    np.add.at(dw, index.reshape(-1), dy.reshape(index.size, w.shape[1]))
    if padding_idx is not None:
        dw[padding_idx] = 0
    return None, dw
