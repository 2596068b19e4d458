"""Losses of one element: their inputs, bounds and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Make, Op, Shapes, map_cost, zeros
from fastnn.testing.reference import pointwise_loss as reference
from fastnn.testing.reference.activation import sigmoid, softplus
from fastnn.testing.reference.loss import reduce, spread
from fastnn.testing.reference.softmax import log_softmax, softmax

__all__ = ["ROWS"]

Inputs = tuple[Array | None, ...]
_TINY = 2.0**-148

# ---- inputs --------------------------------------------------------------------------------------


def _make(
    x: Callable[[np.random.Generator, Any], Array], t: Callable[[np.random.Generator, Any], Array]
) -> Make:
    """Predictions and targets of their own distributions, weights from 0.5 to 2."""

    def make(rng: np.random.Generator, shapes: Shapes) -> Inputs:
        weights = (None if s is None else rng.uniform(0.5, 2.0, s) for s in shapes[2:])
        return x(rng, shapes[0]), t(rng, shapes[1]), *weights

    return make


def _normal(rng: np.random.Generator, shape: Any) -> Array:
    return np.asarray(3 * rng.standard_normal(shape))


def _signs(rng: np.random.Generator, shape: Any) -> Array:
    return np.asarray(rng.choice([-1.0, 1.0], shape))


def _inner(rng: np.random.Generator, shape: Any) -> Array:
    return np.asarray(rng.uniform(0.01, 0.99, shape))


def _labels(rng: np.random.Generator, shape: Any) -> Array:
    """Half of them 0 or 1, half between."""
    t = rng.uniform(0.0, 1.0, shape)
    return np.asarray(np.where(rng.random(shape) < 0.5, np.round(t), t))


# ---- bounds --------------------------------------------------------------------------------------


def _bound(name: str, error: Callable[[Sample, Array], Array], slope: float | None = 4.0) -> Bound:
    """The errors of the elements, summed as the loss is, and one rounding of the result.

    Backward so many roundings of the gradient; None: those of two sigmoids and their products."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        forward = getattr(reference, name)
        each = np.abs(forward(*s.inputs, **{**s.params, "reduction": "none"}))
        reduction = s.params.get("reduction", "mean")
        # A divergence per row is a mean over the first axis.
        divisor = each.shape[0] if reduction == "batchmean" else None
        mean = "mean" if reduction == "batchmean" else reduction
        y = reduce(error(s, each) + _TINY, mean, divisor) + U * np.abs(s.y)
        if slope is None:
            x, t, w, a = (np.asarray(1.0 if v is None else v) for v in s.inputs)
            size = w * (a * t * sigmoid(-x) + (1 - t) * sigmoid(x))
            dx = 12 * U * size * spread(np.abs(s.dy), each, mean, divisor)
        else:
            dx = slope * U * np.abs(np.asarray(s.grads[0]))
        return np.asarray(y), (dx + _TINY, *(None for _ in s.inputs[1:]))

    return bound


def exact(s: Sample, each: Array) -> Array:
    """float64 inside: one rounding to float32."""
    return U * each


def transcendental(s: Sample, each: Array) -> Array:
    """One function within 2 ULP, which is 4 u, and a rounding."""
    return 5 * U * each


def with_logits(s: Sample, each: Array) -> Array:
    """log(1 + e^-|x|) within 4 u, on both sides; the rest is float64."""
    x, t, w, a = (np.asarray(1.0 if v is None else v) for v in s.inputs)
    with np.errstate(invalid="ignore"):
        return np.asarray(4 * U * w * (a * t + 1 - t) * softplus(-np.abs(x)) + U * each)


def divergence(s: Sample, each: Array) -> Array:
    """t log t within 4 u, which may cancel against t x."""
    t = np.asarray(s.inputs[1])
    if s.params.get("log_target"):
        return transcendental(s, each)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(t == 0, 0.0, 4 * U * t * np.abs(np.log(t))) + U * each)


# ---- rows ----------------------------------------------------------------------------------------

_SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (5, 7), (40_001,))
_EMPTY: tuple[tuple[int, ...], ...] = ((0,), (3, 0, 2))


def _refused(name: str) -> tuple[Bad, ...]:
    """What all of these losses refuse."""
    f = F.__dict__[name]
    return (
        Bad(
            lambda: f(zeros(3), zeros(3, 1)),
            ValueError,
            f"{name}: expected target of shape (3,) like input, got (3, 1)",
        ),
        Bad(
            lambda: f(zeros(2), np.zeros(2, np.int64)),
            TypeError,
            f"{name}: expected target of dtype float32, got int64",
        ),
        Bad(
            lambda: f(zeros(0), zeros(0)),
            ValueError,
            f"{name}: expected at least one element for reduction 'mean', got input (0,)",
        ),
        Bad(
            lambda: f(zeros(2), zeros(2), reduction="max"),
            ValueError,
            f"{name}: expected reduction 'mean', 'sum' or 'none', got 'max'",
        ),
        Bad(
            lambda: f(zeros(2), fastnn.tensor(zeros(2), requires_grad=True)),
            ValueError,
            f"{name}: expected target without gradient, got one that requires it; "
            "call detach() first",
        ),
    )


def _row(
    name: str,
    module: str,
    make: Make,
    bound: Bound,
    flops: int,
    params: tuple[dict[str, Any], ...] = (),
    weights: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
    bad: tuple[Bad, ...] = (),
) -> Op:
    """A row; ``kinds`` are its names in the list of functors, ``weights`` its other arrays."""
    none = tuple(None for _ in weights)

    def shapes(*names: tuple[int, ...]) -> tuple[Shapes, ...]:
        return tuple((s, s, *none) for s in names)

    sums: tuple[dict[str, Any], ...] = ({"reduction": "sum"}, {"reduction": "none"})
    weighted: tuple[Shapes, ...] = (
        ((5, 7), (5, 7), (7,), (5, 7)),
        ((2, 6, 40), (2, 6, 40), (6, 40), (40,)),
        ((9, 3), (9, 3), (), None),
    )
    return Op(
        name=f"fastnn.functional.{name}",
        family="loss",
        arrays=("target", *weights),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=(
            *(f"pointwise_loss_{d}[{k}]" for k in kinds or (name,) for d in ("fwd", "bwd")),
            f"nn.{module}",
        ),
        params=({}, *sums),
        shapes=shapes(*_SHAPES),
        pairs=(
            *((s, p) for s in shapes(*_EMPTY) for p in sums),
            *((s, {**p, **q}) for s in shapes((5, 7)) for p in params for q in ({}, *sums)),
            *((s[: 2 + len(weights)], p) for s in weighted if weights for p in ({}, *sums)),
        ),
        tail=lambda n: (((n,), (n,), *none), {"reduction": "none"}),
        large=(shapes((200_003,))[0], {}),
        make=make,
        bound=bound,
        bench=Bench(shapes((64, 128), (1 << 20,)), map_cost(flops)),
        bad=(*_refused(name), *bad),
    )


def _weight_bad(name: str, weight: str) -> Bad:
    return Bad(
        lambda: F.__dict__[name](zeros(2, 3), zeros(2, 3), **{weight: zeros(2)}),
        ValueError,
        f"{name}: expected {weight} with the shape of the last axes of input (2, 3), got (2,)",
    )


def _distributions(rng: np.random.Generator, shape: Any) -> Array:
    return softmax(_normal(rng, shape or (1,))).reshape(shape)


def _logarithms(rng: np.random.Generator, shape: Any) -> Array:
    return log_softmax(_normal(rng, shape or (1,))).reshape(shape)


_LOGITS, _BCE = "binary_cross_entropy_with_logits", "binary_cross_entropy"
_REAL = _make(_normal, _normal)
_MARGIN = _make(_normal, _signs)

ROWS: tuple[Op, ...] = (
    _row("mse_loss", "MSELoss", _REAL, _bound("mse_loss", exact, 5), 2),
    _row("l1_loss", "L1Loss", _REAL, _bound("l1_loss", exact), 2),
    _row(
        "smooth_l1_loss",
        "SmoothL1Loss",
        _REAL,
        _bound("smooth_l1_loss", exact, 6),
        5,
        ({"beta": 0.5}, {"beta": 0.0}),
        bad=(
            Bad(
                lambda: F.smooth_l1_loss(zeros(2), zeros(2), beta=-1.0),
                ValueError,
                "smooth_l1_loss: expected 0 <= beta < inf, got -1.0",
            ),
        ),
    ),
    _row(
        "huber_loss",
        "HuberLoss",
        _REAL,
        _bound("huber_loss", exact, 5),
        5,
        ({"delta": 0.5}, {"delta": 4.0}),
        bad=(
            Bad(
                lambda: F.huber_loss(zeros(2), zeros(2), delta=0.0),
                ValueError,
                "huber_loss: expected 0 < delta < inf, got 0.0",
            ),
        ),
    ),
    _row(
        _LOGITS,
        "BCEWithLogitsLoss",
        _make(_normal, _labels),
        _bound(_LOGITS, with_logits, None),
        30,
        weights=("weight", "pos_weight"),
        bad=(_weight_bad(_LOGITS, "weight"), _weight_bad(_LOGITS, "pos_weight")),
    ),
    _row(
        _BCE,
        "BCELoss",
        _make(_inner, _labels),
        _bound(_BCE, transcendental, 8),
        40,
        weights=("weight",),
        bad=(_weight_bad(_BCE, "weight"),),
    ),
    _row(
        "kl_div",
        "KLDivLoss",
        _make(_logarithms, _distributions),
        _bound("kl_div", divergence),
        20,
        ({"reduction": "batchmean"},),
        kinds=("kl_div",),
        bad=(
            Bad(
                lambda: F.kl_div(zeros(0, 2), zeros(0, 2), "batchmean"),
                ValueError,
                "kl_div: expected at least one row for reduction 'batchmean', got input (0, 2)",
            ),
        ),
    ),
    _row(
        "soft_margin_loss",
        "SoftMarginLoss",
        _MARGIN,
        _bound("soft_margin_loss", transcendental, 9),
        25,
    ),
    _row(
        "hinge_loss",
        "HingeLoss",
        _MARGIN,
        _bound("hinge_loss", exact),
        4,
        ({"margin": 0.5},),
    ),
)
