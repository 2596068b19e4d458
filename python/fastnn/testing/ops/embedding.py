"""Embeddings: their bounds and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import ulp
from fastnn.testing.op import Bad, Bench, Op, Shapes, size, zeros
from fastnn.testing.reference import embedding as reference

__all__ = ["ROWS"]


def embedding(s: Sample) -> tuple[Array, Grads]:
    """Rows are copied; their gradients are float64 sums, rounded once."""
    return 0 * s.y, (None, 0.5 * ulp(np.asarray(s.grads[1])) * (s.grads[1] != 0))


def indices(rng: np.random.Generator, shapes: Shapes) -> tuple[Any, ...]:
    """Some rows more often than others, some never."""
    index, weight = shapes
    assert index is not None
    assert weight is not None
    skewed = (weight[0] * rng.random(index) ** 2).astype(np.int64)
    return skewed, rng.standard_normal(weight)


_EMBEDDING = Op(
    name="fastnn.functional.embedding",
    family="embedding",
    arrays=("weight",),
    reference=(reference.embedding, reference.embedding_vjp),
    covers=("take", "take_order", "take_bwd", "nn.Embedding"),
    params=({},),  # padding_idx takes a gradient away: test_embedding.py
    shapes=(
        ((7,), (4, 5)),
        ((), (3, 17)),
        ((2, 3), (10, 33)),
        ((0,), (4, 5)),
        ((3,), (4, 0)),
        ((40, 50), (100, 16)),
        ((3,), (2, 20_000)),
    ),
    tail=None,
    make=indices,
    bound=embedding,
    bench=Bench(
        (((64, 64), (10_000, 256)),),
        lambda s: (2 * size(s[0]) * s[1][1], 0),  # type: ignore[index]
    ),
    bad=(
        Bad(
            lambda: F.embedding([[0, 1], [3, 0]], zeros(3, 2)),
            ValueError,
            "embedding: expected 0 <= input < 3, got 3 at input[2]",
        ),
        Bad(
            lambda: F.embedding([0, -1], zeros(3, 2)),
            ValueError,
            "embedding: expected 0 <= input < 3, got -1 at input[1]",
        ),
        Bad(
            lambda: F.embedding(zeros(3), zeros(3, 2)),
            TypeError,
            "embedding: expected input of int64, got float32",
        ),
        Bad(
            lambda: F.embedding([0], zeros(3)),
            ValueError,
            "embedding: expected weight of shape (embeddings, dim), got (3,)",
        ),
        Bad(
            lambda: F.embedding([0], zeros(3, 2), padding_idx=3),
            ValueError,
            "embedding: expected -3 <= padding_idx < 3, the number of embeddings, got 3",
        ),
        Bad(
            lambda: fastnn.nn.Embedding(3, -2),
            ValueError,
            "Embedding: expected sizes >= 0, got num_embeddings=3, embedding_dim=-2",
        ),
    ),
    large=(((100, 40), (500, 64)), {}),
)

ROWS: tuple[Op, ...] = (_EMBEDDING,)
