"""Padding: NumPy's own, and its transpose by the indices that it moves."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _widths(x: Array, pad: Any) -> list[tuple[int, int]]:
    given = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return [(0, 0)] * (x.ndim - len(given)) + given[::-1]


def _padded(x: Any, pad: Any, mode: str, value: Any) -> Any:
    widths = _widths(x, pad)
    cut = tuple(
        slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(widths, x.shape, strict=True)
    )
    options = {"constant_values": value} if mode == "constant" else {}
    kept = [(max(a, 0), max(b, 0)) for a, b in widths]
    return np.pad(x[cut], kept, mode=_MODES[mode], **options)  # type: ignore[call-overload]


def pad(x: Array, pad: Any, mode: str = "constant", value: float = 0.0) -> Array:
    """Elements before and after the last axes."""
    return np.asarray(_padded(x, pad, mode, value))


def pad_vjp(
    dy: Array, x: Array, pad: Any, mode: str = "constant", value: float = 0.0
) -> tuple[Array]:
    """Each element's sum over where it went."""
    at = _padded(np.arange(x.size).reshape(x.shape), pad, mode, -1).reshape(-1)
    dx = np.zeros(x.size)
    np.add.at(dx, at[at >= 0], dy.reshape(-1)[at >= 0])
    return (dx.reshape(x.shape),)
