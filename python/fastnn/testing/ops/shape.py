"""Padding: its bound and row."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.reference import shape as reference

__all__ = ["ROWS"]


def pad(s: Sample) -> tuple[Array, Grads]:
    """Elements are copied; a gradient is summed axis by axis at worst, each sum rounded once."""
    x, axes = s.inputs[0], len(s.params["pad"]) // 2
    terms = reference.pad_vjp(np.abs(s.dy), np.asarray(x), **s.params)[0]
    shared = reference.pad_vjp(np.ones(s.dy.shape), np.asarray(x), **s.params)[0] > 1
    stored = 0.0 if s.dtype == "float32" else 2.0**-8  # axis by axis, in the storage dtype
    return 0 * s.y, (shared * axes * (U + stored) * terms,)


_PARAMS: tuple[dict[str, Any], ...] = (
    {"pad": (1, 2)},
    {"pad": (0, 0)},
    {"pad": (-1, 1), "value": 2.5},
    {"pad": (-1, 2), "mode": "circular"},
    *(
        {"pad": widths, "mode": mode}
        for mode in ("constant", "reflect", "replicate", "circular")
        for widths in ((3, 1), (2, 0, 1, 2))
    ),
)

_PAD = Op(
    name="fastnn.functional.pad",
    family="shape",
    layout="nhwc",
    arrays=(),
    reference=(reference.pad, reference.pad_vjp),
    covers=("take", "take_order", "take_bwd"),
    params=_PARAMS,
    shapes=(((4, 5),), ((2, 3, 4, 9),), ((3, 70, 40),), ((0, 3, 6),)),
    pairs=((((4, 3, 2),), {"pad": (0, 1, 2, 1, 1, 0)}),),
    tail=None,
    make=normal(),
    bound=pad,
    bench=Bench((((64, 64, 32, 32),),), map_cost(0)),
    bad=(
        Bad(
            lambda: F.pad(zeros(3), (1,)),
            ValueError,
            "pad: expected two widths for each of at most 1 axes, got (1,)",
        ),
        Bad(
            lambda: F.pad(zeros(3), (1, 1), mode="edge"),
            ValueError,
            "pad: expected mode to be one of 'constant', 'reflect', 'replicate', 'circular', "
            "got 'edge'",
        ),
        Bad(
            lambda: F.pad(zeros(3), (3, 0), mode="reflect"),
            ValueError,
            "pad: expected widths that mode 'reflect' can fill from an axis of 3 elements, got 3 "
            "and 0",
        ),
        Bad(
            lambda: F.pad(zeros(3), (-2, -2)),
            ValueError,
            "pad: expected widths that leave an axis of 3 elements something, got -2 and -2",
        ),
        Bad(
            lambda: F.pad(zeros(3), (2**63 - 1, 0)),
            ValueError,
            "pad: expected widths that leave an axis of 3 elements something, got "
            "9223372036854775807 and 0",
        ),
    ),
    large=(((200, 30, 40),), {"pad": (2, 2, 2, 2), "mode": "reflect"}),
)

ROWS: tuple[Op, ...] = (_PAD,)
