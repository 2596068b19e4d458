"""Margin losses: their inputs, bounds and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Make, Op, Shapes, map_cost, zeros
from fastnn.testing.ops.loss import classes
from fastnn.testing.reference import margin as reference
from fastnn.testing.reference.activation import sigmoid, softplus
from fastnn.testing.reference.loss import reduce, spread

__all__ = ["ROWS"]


def _label(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    x, target, *weight = classes(rng, (*shapes, None)[:3])
    return x, target, *weight[: len(shapes) - 2]


def _labels(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """Labels in any order, then -1, then what does not count."""
    scores, shape = shapes
    assert scores is not None
    assert shape is not None
    target = np.zeros(shape, np.int64)
    for r in np.ndindex(*shape[:-1]):
        target[r] = rng.permutation(shape[-1])
        target[(*r, rng.integers(0, shape[-1]))] = -1
    return 3 * rng.standard_normal(scores), target


def _marks(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """0 or 1 for each class."""
    scores, target, weight = shapes
    assert scores is not None
    assert target is not None
    t = rng.integers(0, 2, target).astype(np.float64)
    w = None if weight is None else rng.uniform(0.5, 2.0, weight)
    return 3 * rng.standard_normal(scores), t, w


def hinges(s: Sample) -> tuple[Array, Grads]:
    """float64 inside; the row's weight and 1 / classes are rounded.

    Backward the sum of the slopes and four products besides; slopes have one sign."""
    dx = 6 * U * np.abs(np.asarray(s.grads[0]))
    return 4 * U * np.abs(s.y), (dx, *(None for _ in s.inputs[1:]))


def soft_margin(s: Sample) -> tuple[Array, Grads]:
    """As binary_cross_entropy_with_logits; the rows of "none" and "sum" come from a product of
    matrices, 16 u of the sum."""
    x, t, w = (np.asarray(1.0 if v is None else v) for v in s.inputs)
    each = w * (t * softplus(-x) + (1 - t) * softplus(x))
    reduction = s.params.get("reduction", "mean")
    y = reduce((24 * U * each).mean(axis=-1), reduction)
    row = spread(np.abs(s.dy), each[..., 0], reduction)[..., None] / x.shape[-1]
    dx = 16 * U * w * (t * sigmoid(-x) + (1 - t) * sigmoid(x)) * row
    return y + U * np.abs(s.y), (dx, None, None)


def _row(
    name: str,
    module: str,
    covers: tuple[str, ...],
    make: Make,
    target: Callable[[tuple[int, ...]], tuple[int, ...]],
    bound: Bound,
    params: tuple[dict[str, Any], ...] = (),
    weighted: bool = False,
    bad: tuple[Bad, ...] = (),
) -> Op:
    """A row; ``target`` is the target's shape for an input's."""
    f = F.__dict__[name]

    def shapes(shape: tuple[int, ...], weight: bool = False) -> Shapes:
        weights = ((shape[-1],) if weight else None,) if weighted else ()
        return shape, target(shape), *weights

    sums: tuple[dict[str, Any], ...] = ({"reduction": "sum"}, {"reduction": "none"})
    no_rows = np.zeros(target((0, 3)), make(np.random.default_rng(0), shapes((1, 1)))[1].dtype)  # type: ignore[union-attr]
    return Op(
        name=f"fastnn.functional.{name}",
        family="margin",
        arrays=("target", "weight") if weighted else ("target",),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=(*covers, f"nn.{module}"),
        params=({}, *sums),
        shapes=tuple(map(shapes, ((4, 3), (5, 1), (2, 3, 7), (600, 10), (3, 40)))),
        pairs=(
            *((shapes((4, 5)), {**p, **q}) for p in params for q in ({}, *sums)),
            *((shapes((4, 5), True), p) for p in ({}, *params, *sums) if weighted),
        ),
        tail=lambda n: (shapes((3, n + 1)), {"reduction": "none"}),
        large=(shapes((3000, 40)), {}),
        make=make,
        bound=bound,
        bench=Bench((shapes((64, 10)), shapes((1024, 100))), map_cost(6)),
        bad=(
            *bad,
            Bad(
                lambda: f(zeros(2, 3), [0, 1], reduction="max"),
                ValueError,
                f"{name}: expected reduction 'mean', 'sum' or 'none', got 'max'",
            ),
            Bad(
                lambda: f(zeros(0, 3), no_rows),
                ValueError,
                f"{name}: expected at least one row for reduction 'mean', got input (0, 3)",
            ),
        ),
    )


def _label_bad(name: str) -> tuple[Bad, ...]:
    f = F.__dict__[name]
    return (
        Bad(
            lambda: f(zeros(2, 3), [0, 3]),
            ValueError,
            f"{name}: expected 0 <= target < 3, got 3 at target[1]",
        ),
        Bad(
            lambda: f(zeros(2, 3), [0]),
            ValueError,
            f"{name}: expected target of shape (2,), one class index for each row of input (2, 3), "
            "got (1,)",
        ),
        Bad(
            lambda: f(zeros(2, 3), zeros(2)),
            TypeError,
            f"{name}: expected target of int64 class indices, got float32",
        ),
    )


_MULTI, _HINGE = "multi_margin_loss", "multiclass_hinge_loss"
_MULTILABEL, _SOFT = "multilabel_margin_loss", "multilabel_soft_margin_loss"
_KERNELS = ("multi_margin_fwd", "multi_margin_bwd")

ROWS: tuple[Op, ...] = (
    _row(
        _MULTI,
        "MultiMarginLoss",
        _KERNELS,
        _label,
        lambda s: s[:-1],
        hinges,
        ({"p": 2}, {"margin": 0.5}),
        weighted=True,
        bad=(
            *_label_bad(_MULTI),
            Bad(
                lambda: F.multi_margin_loss(zeros(2, 3), [0, 1], p=3),
                ValueError,
                "multi_margin_loss: expected p 1 or 2, got 3",
            ),
            Bad(
                lambda: F.multi_margin_loss(zeros(2, 3), [0, 1], weight=zeros(2)),
                ValueError,
                "multi_margin_loss: expected weight of shape (3,), one for each class of input "
                "(2, 3), got (2,)",
            ),
        ),
    ),
    _row(
        _HINGE,
        "MultiClassHingeLoss",
        _KERNELS,
        _label,
        lambda s: s[:-1],
        hinges,
        ({"margin": 0.5},),
        bad=_label_bad(_HINGE),
    ),
    _row(
        _MULTILABEL,
        "MultiLabelMarginLoss",
        ("multilabel_margin_fwd", "multilabel_margin_bwd"),
        _labels,
        lambda s: s,
        hinges,
        bad=(
            Bad(
                lambda: F.multilabel_margin_loss(zeros(1, 3), [[0, 3, -1]]),
                ValueError,
                "multilabel_margin_loss: expected -1 <= target < 3, got 3 at target[1]",
            ),
            Bad(
                lambda: F.multilabel_margin_loss(zeros(2, 3), [0, 1]),
                ValueError,
                "multilabel_margin_loss: expected target of shape (2, 3) like input, labels and "
                "then -1, got (2,)",
            ),
            Bad(
                lambda: F.multilabel_margin_loss(zeros(2, 3), zeros(2, 3)),
                TypeError,
                "multilabel_margin_loss: expected target of dtype int64, got float32",
            ),
        ),
    ),
    _row(
        _SOFT,
        "MultiLabelSoftMarginLoss",
        (),
        _marks,
        lambda s: s,
        soft_margin,
        weighted=True,
        bad=(
            Bad(
                lambda: F.multilabel_soft_margin_loss(zeros(2, 0), zeros(2, 0)),
                ValueError,
                "multilabel_soft_margin_loss: expected at least one class on the last axis, "
                "got input (2, 0)",
            ),
        ),
    ),
)
