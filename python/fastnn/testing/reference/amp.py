"""Mixed precision in NumPy: float64 arithmetic on arrays rounded where autocast rounds them.

Micikevicius et al. 2018, "Mixed precision training".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.testing.compare import round_to

Array = np.ndarray[Any, Any]


def linear(
    x: Array, w: Array, b: Array, dy: Array, activation: str | None = None, dtype: str = "bfloat16"
) -> tuple[Array, tuple[Array, ...], tuple[Array, ...]]:
    """y = act(x w^T + b) of rounded arrays, no activation or relu, and its gradients.

    Args:
        x: (rows, in).
        w: (out, in).
        b: (out,).
        dy: The gradient of y, (rows, out).
        activation: None or ``"relu"``.
        dtype: What all of them are rounded to.

    Returns:
        x w^T + b; (y, dx, dw, db), not rounded; and what bounds their sums' errors: the same sums
        of absolute values.

    Example:
        >>> import numpy as np
        >>> from fastnn.testing.reference import amp
        >>> one = np.ones((1, 1))
        >>> z, results, _ = amp.linear(one * (1 + 2.0**-9), one, one[0], one)
        >>> z.item()
        2.0
    """
    x, w, b, dy = (round_to(v, dtype).astype(np.float64) for v in (x, w, b, dy))
    z = x @ w.T + b
    y, d = (z, dy) if activation is None else (np.maximum(z, 0), dy * (z > 0))
    results = y, d @ w, d.T @ x, d.sum(axis=0)
    size, over = np.abs(x) @ np.abs(w).T + np.abs(b), np.abs(d)
    sizes = size, over @ np.abs(w), over.T @ np.abs(x), over.sum(axis=0)
    return z, results, sizes


def scaled_sgd(
    factors: Sequence[float],
    lr: float,
    init_scale: float,
    growth_factor: float,
    backoff_factor: float,
    growth_interval: int,
) -> list[tuple[list[float], float]]:
    """SGD with dynamic loss scaling, of three weights with the gradients 1, f and 1.

    Returns:
        The weights and the scale after each step.

    Example:
        >>> from fastnn.testing.reference import amp
        >>> amp.scaled_sgd([1.0, float("inf")], 0.5, 4.0, 2.0, 0.25, 10)
        [([-0.5, -0.5, -0.5], 4.0), ([-0.5, -0.5, -0.5], 1.0)]
    """
    w, scale, good, seen = np.zeros(3, np.float32), np.float32(init_scale), 0, []
    with np.errstate(over="ignore", invalid="ignore"):
        for factor in factors:
            gradient = np.array([1, factor, 1], np.float32) * scale
            if np.isfinite(gradient).all():
                w = w - np.float32(lr) * (gradient / scale)
                good += 1
                if good == growth_interval:
                    scale, good = scale * np.float32(growth_factor), 0
            else:
                scale, good = scale * np.float32(backoff_factor), 0
            seen.append((w.tolist(), float(scale)))
    return seen
