"""Losses of rows of classes: their inputs, bounds and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Op, Shapes, map_cost, zeros
from fastnn.testing.reference import loss as reference
from fastnn.testing.reference.softmax import log_softmax

__all__ = ["ROWS"]


def classes(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """Logits; labels for a target with an axis less, else a distribution per row; weights."""
    (logits, target, weight) = shapes
    assert logits is not None
    assert target is not None
    x = 3 * rng.standard_normal(logits)
    w = None if weight is None else rng.uniform(0.5, 2.0, weight)
    if len(target) < len(logits):
        return x, rng.integers(0, max(logits[-1], 1), target), w
    t = rng.random(target)
    return x, (t / t.sum(axis=-1, keepdims=True)).astype(np.float32).astype(np.float64), w


def log_probabilities(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    x, *others = classes(rng, shapes)
    assert x is not None
    return log_softmax(x), *others


def cross_entropy(s: Sample) -> tuple[Array, Grads]:
    """Each row 4 u max(1, |o|), times the weight of its target; reductions in float64.

    A target that is computed, smoothed or weighted, is off by 3 u. Backward 4 u of the row's
    weight, and the roundings of the two products and of the sum of weights."""
    x, target, weight = (None if v is None else np.asarray(v) for v in s.inputs)
    assert x is not None
    assert target is not None
    smoothing = s.params.get("label_smoothing", 0.0)
    ignore_index = s.params.get("ignore_index", -100)
    t, divisor = reference.targets(x, target, weight, ignore_index, smoothing)
    total = t.sum(axis=-1)
    reduction = s.params.get("reduction", "mean")
    plain = {**s.params, "reduction": "none"}
    rows = np.abs(reference.cross_entropy(x, target, weight, **plain))
    computed = 3 * U if smoothing or (weight is not None and target.dtype.kind == "f") else 0.0
    y = reference.reduce(4 * U * np.maximum(total, rows) + computed * rows, reduction, divisor)
    dloss = reference.spread(np.abs(s.dy), total, reduction, divisor)[..., None]
    dx = (4 * U + computed) * total[..., None] * dloss + 3 * U * np.abs(np.asarray(s.grads[0]))
    return np.asarray(y + U * np.abs(s.y)), (dx, None, None)


def nll_loss(s: Sample) -> tuple[Array, Grads]:
    """A product in float64 and a sum; backward the roundings of 1 / divisor and two products."""
    return 2 * U * np.abs(s.y), (3 * U * np.abs(np.asarray(s.grads[0])), None, None)


_SHAPES: tuple[Shapes, ...] = (
    ((4, 3), (4,), None),
    ((4, 3), (4,), (3,)),
    ((1, 1), (1,), None),
    ((3,), (), None),
    ((2, 5, 7), (2, 5), (7,)),
    ((600, 10), (600,), None),
    ((3, 20_000), (3,), (20_000,)),
)
_SOFT_SHAPES: tuple[Shapes, ...] = (((4, 3), (4, 3), None), ((40, 21), (40, 21), (21,)))
_PARAMS: tuple[dict[str, Any], ...] = ({}, {"reduction": "sum"}, {"reduction": "none"})
_SMOOTHED: dict[str, Any] = {"label_smoothing": 0.125, "ignore_index": 2}
_NOT_FINITE = (
    "loss: expected a finite value, got NaN or infinity; lower the learning rate, or look for bad "
    "values in the data; nothing was updated"
)


def _bad(name: str) -> tuple[Bad, ...]:
    """What both losses refuse."""
    f = F.__dict__[name]
    return (
        Bad(
            lambda: f(zeros(2, 3), [0, 3]),
            ValueError,
            f"{name}: expected 0 <= target < 3, got 3 at target[1]",
        ),
        Bad(
            lambda: f(zeros(2, 3), [-1, 7], ignore_index=2),
            ValueError,
            f"{name}: expected 0 <= target < 3, got -1 at target[0]",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0, 2**32 + 1], [1.0, 2.0, 3.0]),
            ValueError,
            f"{name}: expected 0 <= target < 3, got 4294967297 at target[1]",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0]),
            ValueError,
            f"{name}: expected target of shape (2,), one class index for each row of input (2, 3), "
            "got (1,)",
        ),
        Bad(
            lambda: f(zeros(0, 3), np.zeros(0, np.int64)),
            ValueError,
            f"{name}: expected at least one row for reduction 'mean', got input (0, 3)",
        ),
        Bad(
            lambda: f(zeros(2, 0), np.zeros(2, np.int64)),
            ValueError,
            f"{name}: expected 0 <= target < 0, got 0 at target[0]",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0, 1], zeros(2)),
            ValueError,
            f"{name}: expected weight of shape (3,), one for each class of input (2, 3), got (2,)",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0, 1], [1, 2, 3]),
            TypeError,
            f"{name}: expected weight of dtype float32, got int64",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0, 1], reduction="max"),
            ValueError,
            f"{name}: expected reduction 'mean', 'sum' or 'none', got 'max'",
        ),
    )


_CROSS_ENTROPY = Op(
    name="fastnn.functional.cross_entropy",
    family="loss",
    arrays=("target", "weight"),
    reference=(reference.cross_entropy, reference.cross_entropy_vjp),
    covers=("cross_entropy_fwd", "cross_entropy_bwd", "loss_combine", "nn.CrossEntropyLoss"),
    params=_PARAMS,
    shapes=(*_SHAPES, *_SOFT_SHAPES),
    pairs=(
        *((s, {"label_smoothing": 0.125}) for s in _SOFT_SHAPES),
        *((s, {**_SMOOTHED, **p}) for s in _SHAPES[4:] for p in _PARAMS),
        (_SHAPES[1], {"label_smoothing": 1.0}),
    ),
    tail=lambda n: (((3, n + 1), (3,), None), {"reduction": "none"}),
    large=(((3000, 40), (3000,), None), {}),
    make=classes,
    bound=cross_entropy,
    bench=Bench(
        (
            ((256, 10), (256,), None),
            ((256, 1000), (256,), None),
            ((64, 32_000), (64,), None),
        ),
        map_cost(20),
    ),
    bad=(
        *_bad("cross_entropy"),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), zeros(2)),
            ValueError,
            "cross_entropy: expected target probabilities of shape (2, 3) like input, got (2,); "
            "class indices are integers",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), np.zeros(2, np.uint8)),
            TypeError,
            "cross_entropy: expected target of int64 class indices or float32 probabilities, "
            "got uint8",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), zeros(2, 3), ignore_index=0),
            ValueError,
            "cross_entropy: expected class indices for ignore_index 0, got target probabilities",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), [0, 1], label_smoothing=1.5),
            ValueError,
            "cross_entropy: expected 0 <= label_smoothing <= 1, got 1.5",
        ),
        Bad(
            lambda: F.cross_entropy(np.array([[np.nan, 0]], np.float32), [0], check_finite=True),
            ValueError,
            _NOT_FINITE,
        ),
        Bad(
            lambda: F.cross_entropy(
                np.array([[0, 0], [-np.inf, -np.inf]], np.float32), [0, 0], check_finite=True
            ),
            ValueError,
            "cross_entropy: expected a logit above -inf in each row, got none in row 1",
        ),
        Bad(
            lambda: F.cross_entropy(zeros(2, 3), fastnn.tensor(zeros(2, 3), requires_grad=True)),
            ValueError,
            "cross_entropy: expected target without gradient, got one that requires it; "
            "call detach() first",
        ),
    ),
)

_NLL_LOSS = Op(
    name="fastnn.functional.nll_loss",
    family="loss",
    arrays=("target", "weight"),
    reference=(reference.nll_loss, reference.nll_loss_vjp),
    covers=("nll_loss_fwd", "nll_loss_bwd", "nn.NLLLoss"),
    params=(*_PARAMS, {"ignore_index": 2}),
    shapes=tuple(s for s in _SHAPES if s[0] != (1, 1)),
    tail=lambda n: (((3, n + 1), (3,), None), {"reduction": "none"}),
    large=(((3000, 40), (3000,), None), {}),
    make=log_probabilities,
    bound=nll_loss,
    bench=Bench((((64, 10), (64,), None), ((4096, 1000), (4096,), None)), map_cost(1)),
    bad=(
        *_bad("nll_loss"),
        Bad(
            lambda: F.nll_loss(zeros(2, 3), zeros(2, 3)),
            TypeError,
            "nll_loss: expected target of int64 class indices, got float32",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_CROSS_ENTROPY, _NLL_LOSS)
