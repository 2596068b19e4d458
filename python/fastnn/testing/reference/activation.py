"""Activations: the definition, and its derivative times dy.

An infinite x stands for the limit, so ``inf * 0`` counts as 0 (see ``_times``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
# Parameters are float32 numbers in the kernels.
SLOPE = float(np.float32(0.01))

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _exp(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(x))


def _times(x: Array, y: Array) -> Array:
    """x y, where y = 0 wins over an infinite x: it vanishes faster than x grows."""
    with np.errstate(invalid="ignore", under="ignore", over="ignore"):
        return np.where((y == 0) & np.isinf(x), 0.0, x * y)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def relu_vjp(dy: Array, x: Array) -> tuple[Array]:
    """1 for x > 0, else 0."""
    return (np.where(np.isnan(x) | np.isnan(dy), np.nan, np.where(x > 0, dy, 0.0)),)


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(x, 0.0, 6.0)


def relu6_vjp(dy: Array, x: Array) -> tuple[Array]:
    """1 for 0 < x < 6, else 0."""
    return relu_vjp(dy, np.where(x < 6, x, np.where(np.isnan(x), x, 0.0)))


def hardsigmoid(x: Array) -> Array:
    """min(max(x + 3, 0), 6) / 6."""
    return relu6(x + 3) / 6


def hardsigmoid_vjp(dy: Array, x: Array) -> tuple[Array]:
    """1 / 6 for -3 < x < 3, else 0."""
    return (relu6_vjp(dy, x + 3)[0] / 6,)


def hardswish(x: Array) -> Array:
    """x min(max(x + 3, 0), 6) / 6."""
    return _times(x, hardsigmoid(x))


def hardswish_vjp(dy: Array, x: Array) -> tuple[Array]:
    """(2 x + 3) / 6 for -3 < x < 3; below 0, above 1."""
    slope = np.where(x >= 3, 1.0, np.where(np.isnan(x), x, 0.0))
    return (dy * np.where(np.abs(x) < 3, (2 * x + 3) / 6, slope),)


def leaky_relu(x: Array, negative_slope: float = SLOPE) -> Array:
    """x for x > 0, else negative_slope x."""
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_vjp(dy: Array, x: Array, negative_slope: float = SLOPE) -> tuple[Array]:
    """1 for x > 0, else negative_slope."""
    return (np.where(np.isnan(x), x, np.where(x > 0, dy, negative_slope * dy)),)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x for x > 0, else alpha (e^x - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def elu_vjp(dy: Array, x: Array, alpha: float = 1.0) -> tuple[Array]:
    """1 for x > 0, else alpha e^x."""
    return (dy * np.where(x > 0, 1.0, alpha * _exp(np.minimum(x, 0.0))),)


def selu(x: Array) -> Array:
    """scale elu(x, alpha) with the constants of Klambauer et al. 2017."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def selu_vjp(dy: Array, x: Array) -> tuple[Array]:
    """scale elu'(x)."""
    return (SELU_SCALE * elu_vjp(dy, x, SELU_ALPHA)[0],)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + _exp(-x))


def sigmoid_vjp(dy: Array, x: Array) -> tuple[Array]:
    """s(x) s(-x), which is s (1 - s) without the cancellation."""
    return (dy * (sigmoid(x) * sigmoid(-x)),)


def tanh(x: Array) -> Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return np.tanh(x)


def tanh_vjp(dy: Array, x: Array) -> tuple[Array]:
    """1 / cosh(x)^2; 350 stands for whatever would overflow."""
    return (dy / np.cosh(np.clip(x, -350.0, 350.0)) ** 2,)


def softplus(x: Array, beta: float = 1.0) -> Array:
    """log(1 + e^(beta x)) / beta."""
    return np.logaddexp(0.0, beta * x) / beta


def softplus_vjp(dy: Array, x: Array, beta: float = 1.0) -> tuple[Array]:
    """s(beta x)."""
    return (dy * sigmoid(beta * x),)


def swish(x: Array, beta: float = 1.0) -> Array:
    """x s(beta x)."""
    with np.errstate(invalid="ignore"):
        return _times(x, sigmoid(beta * x))


def swish_vjp(dy: Array, x: Array, beta: float = 1.0) -> tuple[Array]:
    """s(z) + z s(z) s(-z) with z = beta x."""
    with np.errstate(invalid="ignore"):
        z = beta * x
    s = sigmoid(z)
    return (dy * (s + _times(z, s * sigmoid(-z))),)


def silu(x: Array) -> Array:
    """x s(x)."""
    return swish(x, 1.0)


def silu_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Swish's with beta 1."""
    return swish_vjp(dy, x, 1.0)


def _normal_cdf(x: Array) -> Array:
    return np.asarray(0.5 * _erfc(-x / math.sqrt(2.0)), dtype=np.float64)


def _gelu_tanh_argument(x: Array) -> tuple[Array, Array]:
    # 0.5 (1 + tanh u) = s(2 u): 1 + tanh u has no digits left in float64 below u = -18.
    c = math.sqrt(2.0 / math.pi)
    with np.errstate(over="ignore"):
        return 2 * c * (x + 0.044715 * x**3), 2 * c * (1 + 3 * 0.044715 * x**2)


def gelu(x: Array, approximate: str = "none") -> Array:
    """x P(X < x) for a standard normal X, or its approximation by tanh."""
    if approximate == "tanh":
        return _times(x, sigmoid(_gelu_tanh_argument(x)[0]))
    return _times(x, _normal_cdf(x))


def gelu_vjp(dy: Array, x: Array, approximate: str = "none") -> tuple[Array]:
    """P(X < x) + x density(x), or the derivative of the approximation."""
    if approximate == "tanh":
        z, slope = _gelu_tanh_argument(x)
        s = sigmoid(z)
        return (dy * (s + _times(x, s * sigmoid(-z)) * _finite(slope)),)
    with np.errstate(over="ignore"):
        density = _exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return (dy * (_normal_cdf(x) + _times(x, density)),)


def _finite(x: Array) -> Array:
    return np.where(np.isinf(x), 0.0, x)
