"""Penalties on parameters, from their definition."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Grads = tuple[Array, ...]


def l1_penalty(w: Array, lam: float) -> Array:
    """lam ||w||_1."""
    return np.asarray(lam * np.abs(w).sum())


def l1_penalty_vjp(dy: Array, w: Array, lam: float) -> Grads:
    """The subgradient that is 0 at 0."""
    return (dy * lam * np.sign(w),)


def l2_penalty(w: Array, lam: float, half: bool = False) -> Array:
    """lam ||w||^2, or half of it."""
    return np.asarray((0.5 if half else 1.0) * lam * (w**2).sum())


def l2_penalty_vjp(dy: Array, w: Array, lam: float, half: bool = False) -> Grads:
    """2 lam w, or half of it."""
    return (dy * (1.0 if half else 2.0) * lam * w,)


def elastic_net_penalty(
    w: Array,
    lam: float | None = None,
    beta: float = 1.0,
    l1: float | None = None,
    l2: float | None = None,
) -> Array:
    """lam (beta ||w||^2 + ||w||_1), or l1 ||w||_1 + l2 ||w||^2."""
    if lam is not None:
        return np.asarray(lam * (beta * (w**2).sum() + np.abs(w).sum()))
    return np.asarray(l1 * np.abs(w).sum() + l2 * (w**2).sum())


def elastic_net_penalty_vjp(
    dy: Array,
    w: Array,
    lam: float | None = None,
    beta: float = 1.0,
    l1: float | None = None,
    l2: float | None = None,
) -> Grads:
    """lam (2 beta w + sign w), or l1 sign w + 2 l2 w."""
    if lam is not None:
        return (dy * lam * (2 * beta * w + np.sign(w)),)
    return (dy * (l1 * np.sign(w) + 2 * l2 * w),)  # type: ignore[operator]
