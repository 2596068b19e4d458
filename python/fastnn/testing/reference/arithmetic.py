"""Tensor's own operators and sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.testing.reference.linear import Activation, activate

Array = np.ndarray[Any, np.dtype[np.float64]]


def add(x: Array, z: Array, activation: Activation = None) -> Array:
    """act(x + z)."""
    return activate(x + z, activation)[0]


def add_vjp(dy: Array, x: Array, z: Array, activation: Activation = None) -> tuple[Array, Array]:
    """dy act'(x + z), twice."""
    dx = dy * activate(x + z, activation)[1]
    return dx, dx


def sub(x: Array, z: Array) -> Array:
    """x - z."""
    return x - z


def sub_vjp(dy: Array, x: Array, z: Array) -> tuple[Array, Array]:
    """dy, -dy."""
    return dy, -dy


def mul(x: Array, z: Array) -> Array:
    """x z."""
    return x * z


def mul_vjp(dy: Array, x: Array, z: Array) -> tuple[Array, Array]:
    """dy z, dy x."""
    return dy * z, dy * x


def div(x: Array, z: Array) -> Array:
    """x / z."""
    return x / z


def div_vjp(dy: Array, x: Array, z: Array) -> tuple[Array, Array]:
    """dy / z, -dy x / z^2."""
    return dy / z, -dy * x / z**2


def total(x: Array) -> Array:
    """sum x."""
    return np.asarray(x.sum())


def total_vjp(dy: Array, x: Array) -> tuple[Array]:
    """dy everywhere."""
    return (np.full(x.shape, dy),)


def mean(x: Array) -> Array:
    """sum x / n."""
    return np.asarray(x.mean())


def mean_vjp(dy: Array, x: Array) -> tuple[Array]:
    """dy / n everywhere."""
    return (np.full(x.shape, dy / x.size),)
