"""Losses: their inputs, bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Op, Shapes, map_cost, zeros
from fastnn.testing.reference import loss as reference

__all__ = ["ROWS"]


def labels(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """Logits; labels for a target with an axis less, else a distribution per row."""
    (logits, target) = shapes
    assert logits is not None
    assert target is not None
    x = 3 * rng.standard_normal(logits)
    if len(target) < len(logits):
        return x, rng.integers(0, max(logits[-1], 1), target)
    t = rng.random(target)
    return x, (t / t.sum(axis=-1, keepdims=True)).astype(np.float32).astype(np.float64)


def cross_entropy(s: Sample) -> tuple[Array, Grads]:
    """Each row 4 u max(1, |o|), times the weight of its target; reductions in float64.

    Backward 4 u of the row's weight, and the roundings of the two products."""
    x, target = np.asarray(s.inputs[0]), np.asarray(s.inputs[1])
    weight = reference.distribution(x, target).sum(axis=-1)
    reduction = s.params.get("reduction", "mean")
    rows = np.abs(reference.cross_entropy(x, target, "none"))
    per_row = 4 * U * np.maximum(weight, rows)
    y = reference.reduce(per_row, reduction)
    dloss = np.abs(s.dy[..., None]) / (rows.size if reduction == "mean" else 1)
    dx = 4 * U * weight[..., None] * dloss + 2 * U * np.abs(np.asarray(s.grads[0]))
    return np.asarray(y + U * np.abs(s.y)), (dx, None)


_CROSS_ENTROPY = Op(
    name="fastnn.functional.cross_entropy",
    family="loss",
    arrays=("target",),
    reference=(reference.cross_entropy, reference.cross_entropy_vjp),
    covers=(
        "cross_entropy_fwd",
        "cross_entropy_bwd",
        "sum_chunks",
        "sum_combine",
        "nn.CrossEntropyLoss",
    ),
    params=({}, {"reduction": "sum"}, {"reduction": "none"}),
    shapes=(
        ((4, 3), (4,)),
        ((4, 3), (4, 3)),
        ((1, 1), (1,)),
        ((3,), ()),
        ((2, 5, 7), (2, 5)),
        ((600, 10), (600,)),
        ((3, 20_000), (3,)),
    ),
    tail=lambda n: (((3, n + 1), (3,)), {"reduction": "none"}),
    make=labels,
    bound=cross_entropy,
    bench=Bench((((64, 10), (64,)), ((4096, 1000), (4096,))), map_cost(20)),
    bad=(
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [0, 3]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got 3 at target[1]",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [-1, 7]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got -1 at target[0]",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [0, 2**32 + 1]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got 4294967297 at target[1]",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [0]),
            ValueError,
            "cross_entropy: expected target of shape (2,), one class index for each row of input "
            "(2, 3), got (1,)",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), zeros(2)),
            ValueError,
            "cross_entropy: expected target probabilities of shape (2, 3) like input, got (2,)",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), np.zeros(2, np.uint8)),
            TypeError,
            "cross_entropy: expected target of int64 class indices or float32 "
            "probabilities, got uint8",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(0, 3), np.zeros(0, np.int64)),
            ValueError,
            "cross_entropy: expected at least one row for reduction 'mean', got input (0, 3)",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 0), np.zeros(2, np.int64)),
            ValueError,
            "cross_entropy: expected 0 <= target < 0, got 0 at target[0]",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [0, 1], "max"),
            ValueError,
            "cross_entropy: expected reduction 'mean', 'sum' or 'none', got 'max'",
        ),
        Bad(
            lambda: F.cross_entropy(np.array([[np.nan, 0]], np.float32), [0], check_finite=True),
            ValueError,
            "loss: expected a finite value, got NaN or infinity; lower the learning rate, or look "
            "for bad values in the data; nothing was updated",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_CROSS_ENTROPY,)
