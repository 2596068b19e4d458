"""The softmax family: its bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import Bad, Bench, Op, Shapes, map_cost, normal, zeros
from fastnn.testing.reference import softmax as reference

__all__ = ["ROWS"]


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


_SHAPES: tuple[Shapes, ...] = (
    ((0, 3),),
    ((1,),),
    ((4, 1),),
    ((2, 3, 10),),
    ((33, 1000),),
    ((2, 20_000),),
)


def _softmax_op(name: str, bound: Bound, modules: tuple[str, ...], flops: int) -> Op:
    return Op(
        name=f"fastnn.functional.{name}",
        family="softmax",
        arrays=(),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=(f"{name}_fwd", f"{name}_bwd", *modules),
        params=({},),
        shapes=_SHAPES,
        tail=lambda n: (((3 if n else 0, n),), {}),
        make=normal(3.0),
        bound=bound,
        bench=Bench((((100_000, 10),), ((4096, 1000),), ((64, 32_000),)), map_cost(flops)),
        bad=(
            Bad(
                lambda: F.__dict__[name](zeros(2, 3), 0),
                ValueError,
                f"{name}: expected dim to be the last axis, -1 or 1, got 0 for input (2, 3)",
            ),
            Bad(
                lambda: F.__dict__[name](zeros()),
                ValueError,
                f"{name}: expected input with at least one axis, got ()",
            ),
            Bad(
                lambda: F.__dict__[name](np.zeros((1, 2), np.int64)),
                TypeError,
                f"{name}: expected a floating-point or uint8 Tensor, got int64",
            ),
        ),
    )


ROWS: tuple[Op, ...] = (
    _softmax_op("softmax", softmax, ("nn.Softmax",), 20),
    _softmax_op("log_softmax", log_softmax, ("nn.LogSoftmax",), 20),
    _softmax_op("logsumexp", logsumexp, (), 18),
)
