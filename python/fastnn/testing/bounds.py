"""How far float32 kernels may be from the float64 oracle, op by op.

A bound takes a Sample (inputs, dy, and the oracle's answers) and returns the largest absolute
error of the output and of each gradient. u is 2^-24. The figures are the contract of
docs/design.md; what they are made of stands next to them. For bfloat16 the caller adds the rounding
of the stored result, and ``store`` is the unit roundoff of whatever forward stored for backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.testing.compare import U, ulp, unit_roundoff
from fastnn.testing.reference import linear as ref_linear
from fastnn.testing.reference import loss as ref_loss
from fastnn.testing.reference import norm as ref_norm

Array = np.ndarray[Any, Any]
Grads = tuple[Array | None, ...]


@dataclass(frozen=True)
class Sample:
    """One call of an op: inputs already rounded to the dtype, and the oracle's answers to them."""

    inputs: tuple[Array | None, ...]
    params: dict[str, Any]
    dtype: str
    dy: Array
    y: Array
    grads: Grads

    @property
    def store(self) -> float:
        """Relative error of what forward stored: 0 for float32, which the bounds include."""
        return 0.0 if self.dtype == "float32" else unit_roundoff(self.dtype)


Bound = Callable[[Sample], tuple[Array, Grads]]


def with_storage(bound: Array, oracle: Array, dtype: str) -> Array:
    """The bound of a result that is computed in float32, then rounded to its storage dtype."""
    if dtype == "float32":
        return bound
    # Half a unit in the last place of a number of 8 bits; 2^-134 where it is subnormal.
    return np.asarray(bound + U_STORE * (np.abs(oracle) + bound) + 2.0**-134)


U_STORE = unit_roundoff("bfloat16")


def _slope(s: Sample) -> Array:
    """f'(x), from the vjp (dy is never 0)."""
    assert s.grads[0] is not None
    with np.errstate(invalid="ignore"):
        return np.asarray(s.grads[0] / s.dy)


def exact(s: Sample) -> tuple[Array, Grads]:
    """Every operation is exact, or is the oracle's own one rounded once (half an ULP)."""
    return 0.5 * ulp(s.y), tuple(None if g is None else 0.5 * ulp(g) for g in s.grads)


def pointwise(forward: float, backward: float) -> Bound:
    """Forward and slope within so many ULP; one more rounding for slope times dy."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        dx = backward * ulp(_slope(s)) * np.abs(s.dy) + ulp(s.grads[0])  # type: ignore[arg-type]
        return forward * ulp(s.y), (dx,)

    return bound


def scaled_elu(s: Sample) -> tuple[Array, Grads]:
    """expm1 and exp within 2 ULP, times a constant rounded to float32, rounded once more."""
    alpha = abs(s.params.get("alpha", 1.7580993408473768599))
    x = np.minimum(np.asarray(s.inputs[0]), 0.0)
    y = 2 * alpha * ulp(np.expm1(x)) + 2 * U * np.abs(s.y) + ulp(s.y)
    dx = 2 * alpha * ulp(np.exp(x)) * np.abs(s.dy)
    return y, (dx + 3 * U * np.abs(np.asarray(s.grads[0])) + ulp(np.asarray(s.grads[0])),)


def gated(s: Sample) -> tuple[Array, Grads]:
    """Forward 4 ULP everywhere; the slope crosses 0, so 8 u max(1, |slope|)."""
    dx = 8 * U * np.maximum(1.0, np.abs(_slope(s))) * np.abs(s.dy)
    return 4 * ulp(s.y), (dx + ulp(np.asarray(s.grads[0])),)


def softmax(s: Sample) -> tuple[Array, Grads]:
    """Forward: absolute 4 u and relative (6 + |x - max|) u.

    x - max rounds (|x - max| u), exp is within 2 ULP = 4 u, and the scale and the product round.
    Backward: 8 u max|dy|, and what y lost in storage."""
    x = np.asarray(s.inputs[0])
    depth = _depth(x)
    y = np.minimum(4 * U, (6 + depth) * U * s.y) + 3 * 2.0**-149
    largest = np.max(np.abs(s.dy), axis=-1, keepdims=True, initial=0.0)
    # p (dy - sum p dy) with p off by a factor of 1 +- store.
    dot = (s.y * np.abs(s.dy)).sum(axis=-1, keepdims=True)
    lost = s.store * s.y * (np.abs(s.dy) + 2 * dot) * (1 + s.store)
    return y, (8 * U * largest + lost,)


def _depth(x: Array) -> Array:
    """max - x, below which e^-depth is no float any more."""
    with np.errstate(invalid="ignore", over="ignore"):
        depth = x.max(axis=-1, keepdims=True, initial=-np.inf) - x
    return np.asarray(np.minimum(np.nan_to_num(depth, nan=0.0, posinf=200.0), 200.0))


def log_softmax(s: Sample) -> tuple[Array, Grads]:
    """Forward 4 u max(1, |o|). Backward dy - p sum dy: p = exp(y) carries forward's error in full,
    plus exp's 4 u and the rounding of the sum; then the subtraction."""
    p = np.exp(np.minimum(s.y, 0.0))
    total = np.abs(s.dy.sum(axis=-1, keepdims=True))
    error = (4 * U * np.maximum(1.0, np.abs(s.y)) + s.store * np.minimum(np.abs(s.y), 1e3)) + 6 * U
    dx = p * np.expm1(np.minimum(error, 80.0)) * total + 2 * U * (np.abs(s.dy) + p * total)
    return 4 * U * np.maximum(1.0, np.abs(s.y)), (dx,)


def logsumexp(s: Sample) -> tuple[Array, Grads]:
    """Forward as log_softmax. Backward p dy with p = exp((x - max) - log_sum).

    Both differences round (by u of what they are), log is within 2 ULP, exp within 4 u, and the
    product rounds."""
    x = np.asarray(s.inputs[0])
    depth = _depth(x)
    with np.errstate(invalid="ignore"):
        log_sum = np.nan_to_num(s.y - x.max(axis=-1, initial=-np.inf))[..., None]
    p_dy = np.abs(np.asarray(s.grads[0]))
    relative = (6 + 2 * depth + log_sum) * U + 2 * ulp(log_sum)
    return 4 * U * np.maximum(1.0, np.abs(s.y)), (relative * p_dy + 2.0**-147,)


def layer_norm(s: Sample) -> tuple[Array, Grads]:
    """xhat within 4 u max(1, |xhat|) at any offset, then one multiply-add with weight and bias.

    dx: 16 u of the terms that it is made of. dw: xhat's error and the product's rounding, 5 u;
    db: sums are float64, so only the result is rounded."""
    x, w, b = s.inputs
    shape, eps = s.params["normalized_shape"], s.params.get("eps", ref_norm.EPS)
    xhat, rstd = ref_norm.statistics(np.asarray(x), shape, eps)
    cols = xhat.shape[-1]
    weight = np.ones(cols) if w is None else np.abs(w).reshape(-1)
    y = 4 * U * np.maximum(1.0, np.abs(xhat)) * weight
    if w is not None or b is not None:
        y = y + U * np.abs(s.y).reshape(xhat.shape)
    dy = np.abs(s.dy).reshape(xhat.shape)
    g = dy * weight
    terms = g + g.mean(-1, keepdims=True)
    terms = terms + np.maximum(1.0, np.abs(xhat)) * (g * np.abs(xhat)).mean(-1, keepdims=True)
    dw = (dy * np.maximum(1.0, np.abs(xhat))).reshape(-1, cols).sum(axis=0).reshape(shape)
    db = dy.reshape(-1, cols).sum(axis=0).reshape(shape)
    dx = (16 * U * rstd * terms).reshape(np.asarray(x).shape)
    return y.reshape(s.y.shape), (
        dx,
        None if w is None else 5 * U * dw,
        None if b is None else U * db,
    )


# Largest |f'| and |f''| of the activations that linear fuses (selu has the steepest slope at 0-).
_STEEPEST, _CURVED = 1.76, 1.76
_KINKED = ("relu", "leaky_relu", "selu", "elu")


def linear(s: Sample) -> tuple[Array, Grads]:
    """16 u (|A| |B|) for every product.

    An activation passes z's error on with its slope, and adds its own 4 ULP; its derivative is off
    by its curvature times z's error, and all of it next to a kink."""
    x, w, b = (None if v is None else np.asarray(v) for v in s.inputs)
    assert x is not None
    assert w is not None
    activation = s.params.get("activation")
    z_size = np.abs(x) @ np.abs(w).T + (0.0 if b is None else np.abs(b))
    z_error = 16 * U * z_size
    z = x @ w.T + (0.0 if b is None else b)
    slope = ref_linear.activate(z, activation)[1]
    dy = np.abs(s.dy)
    if activation is None:
        y, dz_error = z_error, np.zeros_like(s.dy)
    else:
        y = _STEEPEST * z_error + 4 * ulp(s.y)
        name = activation[0] if isinstance(activation, tuple) else activation
        wrong_side = (name in _KINKED) & (np.abs(z) <= z_error)
        dz_error = dy * (_CURVED * z_error + 9 * U + _STEEPEST * wrong_side)
    count = int(np.prod(x.shape[:-1], dtype=np.int64))
    dz = (dy * np.abs(slope) + dz_error).reshape(count, w.shape[0])
    lost = dz_error.reshape(dz.shape)
    rows = np.abs(x).reshape(count, w.shape[1])
    dx = (16 * U * dz @ np.abs(w) + lost @ np.abs(w)).reshape(x.shape)
    dw = 16 * U * dz.T @ rows + lost.T @ rows
    db = None if b is None else 4 * U * dz.sum(axis=0) + lost.sum(axis=0)
    return y, (dx, dw, db)


def matmul(s: Sample) -> tuple[Array, Grads]:
    """16 u (|A| |B|), forward and backward."""
    a, b = (np.abs(np.asarray(v)) for v in s.inputs)
    dy = np.abs(s.dy)
    return 16 * U * a @ b, (16 * U * dy @ b.T, 16 * U * a.T @ dy)


def cross_entropy(s: Sample) -> tuple[Array, Grads]:
    """Each row 4 u max(1, |o|), times the weight of its target; reductions in float64.

    Backward 4 u of the row's weight, and the roundings of the two products."""
    x, target = np.asarray(s.inputs[0]), np.asarray(s.inputs[1])
    weight = ref_loss.distribution(x, target).sum(axis=-1)
    reduction = s.params.get("reduction", "mean")
    rows = np.abs(ref_loss.cross_entropy(x, target, "none"))
    per_row = 4 * U * np.maximum(weight, rows)
    y = ref_loss.reduce(per_row, reduction)
    dloss = np.abs(s.dy[..., None]) / (rows.size if reduction == "mean" else 1)
    dx = 4 * U * weight[..., None] * dloss + 2 * U * np.abs(np.asarray(s.grads[0]))
    return np.asarray(y + U * np.abs(s.y)), (dx, None)


def dropout(s: Sample) -> tuple[Array, Grads]:
    """The scale and the product are rounded: 1 ULP each at most half."""
    return ulp(s.y) * (s.y != 0), (ulp(np.asarray(s.grads[0])) * (s.grads[0] != 0),)


def summed(s: Sample) -> tuple[Array, Grads]:
    """Float64 inside: the scale 1 / n and the result are rounded to float32. 4 u sum|x|."""
    x = np.asarray(s.inputs[0])
    scale = x.size if np.any(s.grads[0] != s.dy) else 1
    return np.asarray(4 * U * np.abs(x).sum() / max(scale, 1)), (2 * U * np.abs(s.grads[0]),)  # type: ignore[arg-type]


def arithmetic(s: Sample) -> tuple[Array, Grads]:
    """Forward is IEEE's own operation: half an ULP. A gradient is at most four of them."""
    return 0.5 * ulp(s.y), tuple(None if g is None else 2.5 * ulp(g) for g in s.grads)
