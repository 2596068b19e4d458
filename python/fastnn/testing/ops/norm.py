"""Normalisation: its bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.reference import norm as reference

__all__ = ["ROWS"]


def layer_norm(s: Sample) -> tuple[Array, Grads]:
    """xhat within 4 u max(1, |xhat|) at any offset, then one multiply-add with weight and bias.

    dx: 16 u of the terms that it is made of. dw: xhat's error and the product's rounding, 5 u;
    db: sums are float64, so only the result is rounded."""
    x, w, b = s.inputs
    shape, eps = s.params["normalized_shape"], s.params.get("eps", reference.EPS)
    xhat, rstd = reference.statistics(np.asarray(x), shape, eps)
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


_LAYER_NORM = Op(
    name="fastnn.functional.layer_norm",
    family="norm",
    arrays=("weight", "bias"),
    reference=(reference.layer_norm, reference.layer_norm_vjp),
    covers=("layer_norm_fwd", "layer_norm_bwd", "layer_norm_bwd_params", "nn.LayerNorm"),
    params=({"normalized_shape": (7,)}, {"normalized_shape": (7,), "eps": 0.5}),
    shapes=(
        ((5, 7), (7,), (7,)),
        ((5, 7), None, None),
        ((2, 3, 7), (7,), None),
        ((7,), None, (7,)),
        ((0, 7), (7,), (7,)),
        ((6000, 7), (7,), (7,)),
    ),
    tail=lambda n: (((3, n + 1), (n + 1,), (n + 1,)), {"normalized_shape": (n + 1,)}),
    pairs=(
        (((4, 2, 7), (2, 7), (2, 7)), {"normalized_shape": (2, 7)}),
        (((3, 20_000), (20_000,), (20_000,)), {"normalized_shape": (20_000,)}),
        (((5, 1), (1,), (1,)), {"normalized_shape": (1,)}),
    ),
    make=normal(),
    bound=layer_norm,
    bench=Bench((((64, 128), (128,), (128,)), ((4096, 1024), (1024,), (1024,))), map_cost(8)),
    bad=(
        Bad(
            lambda: F.layer_norm(zeros(2, 3), 4),
            ValueError,
            "layer_norm: expected input to end with normalized_shape (4,), got input (2, 3)",
        ),
        Bad(
            lambda: F.layer_norm(zeros(2, 3), 3, zeros(2)),
            ValueError,
            "layer_norm: expected weight of shape (3,) to fit input (2, 3), got (2,)",
        ),
        Bad(
            lambda: F.layer_norm(zeros(2, 3), 3, bias=zeros(3, 1)),
            ValueError,
            "layer_norm: expected bias of shape (3,) to fit input (2, 3), got (3, 1)",
        ),
        Bad(
            lambda: F.layer_norm(zeros(2, 3), 3, eps=-1.0),
            ValueError,
            "layer_norm: expected eps >= 0, got -1",
        ),
        Bad(
            lambda: F.layer_norm(zeros(2, 0), 0),
            ValueError,
            "layer_norm: expected at least one element to normalise, got input (2, 0)",
        ),
        Bad(
            lambda: F.layer_norm(np.zeros((2, 3), np.int64), 3),
            TypeError,
            "layer_norm: expected a floating-point or uint8 Tensor, got int64",
        ),
    ),
    cuda=None,
)

ROWS: tuple[Op, ...] = (_LAYER_NORM,)
