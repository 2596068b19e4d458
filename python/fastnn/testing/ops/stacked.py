"""The linear layer of several models at once: every model has the bound of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.op import Bad, Bench, Op, Shapes, normal, size, zeros
from fastnn.testing.ops import linear
from fastnn.testing.reference import stacked as reference

__all__ = ["ROWS"]


def stacked(s: Sample) -> tuple[Array, Grads]:
    """That of linear for each; the gradient of an input that all share is a sum of theirs."""
    x, w, b = (None if v is None else np.asarray(v) for v in s.inputs)
    assert x is not None
    assert w is not None
    shared, count = x.ndim == 2, len(w)
    bounds = []
    for i in range(count):
        inputs = x if shared else x[i], w[i], None if b is None else b[i]
        bounds.append(linear.linear(replace(s, inputs=inputs, dy=s.dy[i], y=s.y[i])))
    y = np.stack([out for out, _ in bounds])
    dx, dw, db = (
        None if parts[0] is None else np.stack([np.asarray(p) for p in parts])
        for parts in zip(*(grads for _, grads in bounds), strict=True)
    )
    assert dx is not None
    return y, (dx.sum(axis=0) if shared else dx, dw, db)


def cost(s: Shapes) -> tuple[int, int]:
    x, (count, out, wide) = s[0], s[1]  # type: ignore[misc]
    rows = x[-2]  # type: ignore[index]
    return sum(map(size, s)) + count * rows * out, 2 * count * rows * out * wide


_SHAPES: tuple[Shapes, ...] = (
    ((3, 7, 4), (3, 5, 4), (3, 5)),
    ((7, 4), (3, 5, 4), (3, 5)),
    ((3, 7, 4), (3, 5, 4), None),
    ((1, 7, 4), (1, 5, 4), (1, 5)),
    ((2, 0, 4), (2, 5, 4), (2, 5)),
    ((2, 3, 0), (2, 5, 0), (2, 5)),
    ((3, 33, 70), (3, 65, 70), (3, 65)),
)

_STACKED = Op(
    name="fastnn.functional.stacked_linear",
    family="stacked",
    arrays=("weight", "bias"),
    reference=(reference.stacked_linear, reference.stacked_linear_vjp),
    covers=("gemm_batch", "linear_bwd", "nn.Stacked"),
    params=({},),
    shapes=_SHAPES,
    pairs=tuple(
        (shapes, {"activation": a})
        for a in ("relu", "tanh", "gelu", ("softplus", 2.0))
        for shapes in (_SHAPES[0], _SHAPES[1], _SHAPES[6])
    ),
    tail=None,
    make=normal(),
    bound=stacked,
    bench=Bench(
        (
            ((16, 32, 64), (16, 64, 64), (16, 64)),
            ((32, 64), (16, 64, 64), (16, 64)),
            ((8, 128, 256), (8, 256, 256), (8, 256)),
        ),
        cost,
    ),
    dtypes=("float32",),
    large=(((5, 90, 100), (5, 80, 100), (5, 80)), {"activation": "gelu"}),
    bad=(
        Bad(
            lambda: F.stacked_linear(zeros(2, 3), zeros(5, 3)),
            ValueError,
            "stacked_linear: expected weight of shape (models, out, in), got (5, 3)",
        ),
        Bad(
            lambda: F.stacked_linear(zeros(3, 2, 6), zeros(4, 5, 6)),
            ValueError,
            "stacked_linear: expected input of shape (4, rows, 6) or (rows, 6) to fit weight "
            "(4, 5, 6), got (3, 2, 6)",
        ),
        Bad(
            lambda: F.stacked_linear(zeros(2, 6), zeros(4, 5, 6), zeros(5)),
            ValueError,
            "stacked_linear: expected bias of shape (4, 5) to fit weight (4, 5, 6), got (5,)",
        ),
        Bad(
            lambda: F.stacked_linear(np.zeros((2, 6), np.int64), zeros(4, 5, 6)),
            TypeError,
            "stacked_linear: expected input of dtype float32, got int64",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_STACKED,)
