"""Dropout: its bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import ulp
from fastnn.testing.op import UNARY, Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.reference import dropout as reference

__all__ = ["ROWS"]


def dropout(s: Sample) -> tuple[Array, Grads]:
    """The scale and the product are rounded: 1 ULP each at most half."""
    return ulp(s.y) * (s.y != 0), (ulp(np.asarray(s.grads[0])) * (s.grads[0] != 0),)


_DROPOUT = Op(
    name="fastnn.functional.dropout",
    family="dropout",
    arrays=(),
    reference=(reference.dropout, reference.dropout_vjp),
    covers=("dropout", "rng_draw", "nn.Dropout"),
    params=({}, {"p": 0.1}, {"p": 0.0}, {"p": 1.0}, {"p": 0.5, "training": False}),
    shapes=UNARY,
    tail=lambda n: (((n,),), {}),
    make=normal(),
    bound=dropout,
    bench=Bench((((64, 128),), ((1 << 20,),)), map_cost(2)),
    bad=(
        Bad(lambda: F.dropout(zeros(2), 1.5), ValueError, "dropout: expected 0 <= p <= 1, got 1.5"),
        Bad(
            lambda: F.dropout(zeros(2), -0.1),
            ValueError,
            "dropout: expected 0 <= p <= 1, got -0.1",
        ),
        Bad(
            lambda: F.dropout(zeros(2), float("nan")),
            ValueError,
            "dropout: expected 0 <= p <= 1, got nan",
        ),
        Bad(
            lambda: F.dropout(np.zeros(2, np.int64)),
            TypeError,
            "dropout: expected a floating-point or uint8 Tensor, got int64",
        ),
    ),
    cuda=None,
)

ROWS: tuple[Op, ...] = (_DROPOUT,)
