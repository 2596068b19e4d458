"""Normalisation: the bound of all norms, and the rows of those over the trailing axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample, activated
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.ops.linear import FUSED
from fastnn.testing.reference import norm as reference
from fastnn.testing.reference.dropout import mask

__all__ = ["ROWS", "norm", "not_floating"]


# ---- bounds --------------------------------------------------------------------------------------


def norm(
    s: Sample,
    statistics: tuple[Array, Array],
    parameters: tuple[Array | None, Array | None],
    mean: Any,
    total: Any,
) -> tuple[Array, Array, Array, Array]:
    """Bounds of y, dx, dw and db of any norm.

    xhat within 4 u max(1, |xhat|) at any offset, one multiply-add with weight and bias, and what
    the activation makes of both. dx: 16 u of the terms that it is made of. dw: xhat's error and the
    product's rounding, 5 u; db: sums are float64, so only the result is rounded. ``mean`` is over
    what is normalised together, ``total`` over what shares a parameter. Dropout multiplies y and dy
    by factors of 2 u, product included."""
    xhat, rstd = statistics
    w, b = parameters
    weight = 1.0 if w is None else np.abs(w)
    z = xhat if w is None else xhat * w
    z = z if b is None else z + b
    size = np.maximum(1.0, np.abs(xhat))
    z_error = 4 * U * size * weight + (0.0 if w is None and b is None else U * np.abs(z))
    p = s.params.get("dropout_p", 0.0)
    drop = mask(s.y.shape, s.y.ndim, p, "inverted")
    s = replace(s, dy=s.dy * drop)
    y, d_error, d = activated(z, z_error, s, s.params.get("activation"))
    if p > 0:
        y = drop * y + ulp(s.y)
        d_error = d_error + 2 * U * d

    def of_dx(g: Array) -> Array:
        return np.asarray(g + mean(g) + size * mean(g * np.abs(xhat)))

    dx = rstd * (16 * U * of_dx(d * weight) + of_dx(d_error * weight))
    dw = total(5 * U * d * size + d_error * np.abs(xhat))
    return y, dx, dw, total(U * d + d_error)


def _rows(s: Sample, centred: bool) -> tuple[Array, Array, Array, Array]:
    x, w, b = (*s.inputs, None)[:3]
    axes = tuple(range(-len(s.params["normalized_shape"]), 0))
    rest = tuple(range(np.asarray(x).ndim - len(axes)))
    eps = s.params.get("eps", reference.EPS)
    return norm(
        s,
        reference.statistics(np.asarray(x), axes, eps, centred),
        (w, b),
        lambda v: v.mean(axis=axes, keepdims=True),
        lambda v: v.sum(axis=rest),
    )


def layer_norm(s: Sample) -> tuple[Array, Grads]:
    """Over the trailing axes."""
    y, dx, dw, db = _rows(s, centred=True)
    return y, (dx, None if s.inputs[1] is None else dw, None if s.inputs[2] is None else db)


def rms_norm(s: Sample) -> tuple[Array, Grads]:
    """As layer_norm, without a mean."""
    y, dx, dw, _ = _rows(s, centred=False)
    return y, (dx, None if s.inputs[1] is None else dw)


def not_floating(op: Any, name: str, *args: Any) -> Bad:
    """The call with integers."""
    return Bad(
        lambda: op(np.zeros((2, 3, 4), np.int64), *args),
        TypeError,
        f"{name}: expected a floating-point or uint8 Tensor, got int64",
    )


# ---- rows ----------------------------------------------------------------------------------------

_ROW_SHAPES: tuple[tuple[int, ...], ...] = ((5, 7), (2, 3, 7), (7,), (0, 7), (6000, 7))

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
        *(
            (((9, n), (n,), (n,)), {"normalized_shape": (n,), "activation": a})
            for a in FUSED
            for n in (21, 600)
        ),
        *(
            (((9, n), (n,), (n,)), {"normalized_shape": (n,), "activation": a, "dropout_p": 0.3})
            for a in (None, "relu", "gelu")
            for n in (21, 600)
        ),
    ),
    make=normal(),
    bound=layer_norm,
    bench=Bench(
        tuple(((m, n), (n,), (n,)) for m, n in ((64, 128), (256, 768), (4096, 1024))), map_cost(8)
    ),
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
        not_floating(F.layer_norm, "layer_norm", 4),
    ),
)

_RMS_NORM = Op(
    name="fastnn.functional.rms_norm",
    family="norm",
    arrays=("weight",),
    reference=(reference.rms_norm, reference.rms_norm_vjp),
    covers=("rms_norm_fwd", "rms_norm_bwd", "layer_norm_bwd_params", "nn.RMSNorm"),
    params=(
        {"normalized_shape": (7,), "eps": reference.EPS},
        {"normalized_shape": (7,), "eps": 0.5},
    ),
    shapes=tuple((shape, w) for shape in _ROW_SHAPES for w in ((7,), None)),
    tail=lambda n: (((3, n + 1), (n + 1,)), {"normalized_shape": (n + 1,)}),
    pairs=(
        *tuple(
            (((9, n), (n,)), {"normalized_shape": (n,), "eps": reference.EPS, "activation": a})
            for a in (None, "relu", "gelu")
            for n in (21, 600)
        ),
        (((9, 37), (37,)), {"normalized_shape": (37,), "eps": 0.5, "dropout_p": 0.3}),
    ),
    make=normal(),
    bound=rms_norm,
    bench=Bench((((4096, 1024), (1024,)),), map_cost(5)),
    bad=(
        Bad(
            lambda: F.rms_norm(zeros(2, 3), 4),
            ValueError,
            "rms_norm: expected input to end with normalized_shape (4,), got input (2, 3)",
        ),
        Bad(
            lambda: F.rms_norm(zeros(2, 3), 3, zeros(2)),
            ValueError,
            "rms_norm: expected weight of shape (3,) to fit input (2, 3), got (2,)",
        ),
        not_floating(F.rms_norm, "rms_norm", 4),
    ),
)

ROWS: tuple[Op, ...] = (_LAYER_NORM, _RMS_NORM)
