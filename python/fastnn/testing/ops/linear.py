"""Linear layers: their bounds, costs and rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import fastnn
from fastnn import _core
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample, activated, rounded
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import Bad, Bench, Op, Shapes, normal, size, zeros
from fastnn.testing.reference import linear as reference
from fastnn.testing.reference.dropout import mask

__all__ = ["FUSED", "ROWS"]


def linear(s: Sample) -> tuple[Array, Grads]:
    """16 u (|A| |B|) for every product, and what the activation makes of it. Dropout multiplies y
    and dy by factors of 2 u, product included."""
    x, w, b, r = (None if v is None else np.asarray(v) for v in (*s.inputs, None)[:4])
    assert x is not None
    assert w is not None
    more = [v for v in (b, r) if v is not None]
    z_size = np.abs(x) @ np.abs(w).T + sum(np.abs(v) for v in more)
    z = x @ w.T + sum(more)
    activation, p = s.params.get("activation"), s.params.get("dropout_p", 0.0)
    drop = mask(s.y.shape, s.y.ndim, p, "inverted")
    s = replace(s, dy=s.dy * drop)
    y, dz_error, dz_size = activated(z, 16 * U * z_size, s, activation)
    if activation is not None or p > 0:
        dz_error = rounded(z, dz_error, dz_size, s)
    if p > 0:
        y = drop * y + ulp(s.y)
        dz_error = dz_error + 2 * U * dz_size
    count = int(np.prod(x.shape[:-1], dtype=np.int64))
    dz = dz_size.reshape(count, w.shape[0])
    lost = dz_error.reshape(dz.shape)
    rows = np.abs(x).reshape(count, w.shape[1])
    dx = (16 * U * dz @ np.abs(w) + lost @ np.abs(w)).reshape(x.shape)
    dw = 16 * U * dz.T @ rows + lost.T @ rows
    db = None if b is None else 4 * U * dz.sum(axis=0) + lost.sum(axis=0)
    dr = None if r is None else U * dz_size + dz_error
    return y, (dx, dw, db, dr)[: len(s.inputs)]


def linear_cost(s: Shapes) -> tuple[int, int]:
    rows, out, wide = size(s[0]) // s[1][1], s[1][0], s[1][1]  # type: ignore[index]
    return sum(map(size, s)) + rows * out, 2 * rows * out * wide


_LINEAR_SHAPES: tuple[Shapes, ...] = (
    ((3, 4), (5, 4), (5,), None),
    ((3, 4), (5, 4), None, None),
    ((4,), (1, 4), (1,), None),
    ((2, 3, 17), (10, 17), (10,), (2, 3, 10)),
    ((0, 4), (5, 4), (5,), (0, 5)),
    ((3, 0), (5, 0), (5,), None),
    ((3, 4), (0, 4), (0,), None),
    ((65, 129), (33, 129), (33,), (65, 33)),
    ((230, 300), (210, 300), (210,), None),
)
FUSED: tuple[reference.Activation, ...] = (
    "relu",
    ("leaky_relu", 0.25),
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    ("softplus", 2.0),
    ("silu", 1.0),
    "gelu",
    "gelu_tanh",
)

_KNOWN = ", ".join(name for name in _core.ACTIVATIONS if name != "identity")

_LINEAR = Op(
    name="fastnn.functional.linear",
    family="linear",
    arrays=("weight", "bias", "residual"),
    reference=(reference.linear, reference.linear_vjp),
    covers=(
        "gemm_pack",
        "gemm_packed",
        "gemm_small",
        "gemm_bf16_pack",
        "gemm_bf16",
        "linear_bwd",
        "nn.Linear",
        "activation_fwd[identity]",
        "activation_bwd[identity]",
    ),
    params=({},),
    shapes=_LINEAR_SHAPES,
    pairs=(
        *((shapes, {"activation": a}) for a in FUSED for shapes in _LINEAR_SHAPES[2:5]),
        *(
            (shapes, {"activation": a, "dropout_p": 0.3})
            for a in (None, "relu", "tanh", "gelu")
            for shapes in (*_LINEAR_SHAPES[2:5], *_LINEAR_SHAPES[7:])
        ),
    ),
    tail=lambda n: (((3, n), (2, n), (2,), None), {}),
    make=normal(),
    bound=linear,
    bench=Bench(
        tuple(
            ((m, k), (n, k), (n,), None)
            for m, n, k in ((64, 128, 128), (256, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096))
        ),
        linear_cost,
    ),
    bad=(
        Bad(
            lambda: F.linear(zeros(32, 100), zeros(64, 128)),
            ValueError,
            "linear: expected input.shape[-1] == 128 to fit weight (64, 128), got input (32, 100)",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(4, 3), zeros(3)),
            ValueError,
            "linear: expected bias of shape (4,) to fit weight (4, 3), got (3,)",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(4, 3), residual=zeros(4)),
            ValueError,
            "linear: expected residual of shape (2, 4), got (4,)",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(4, 3), dropout_p=1.5),
            ValueError,
            "linear: expected 0 <= dropout_p <= 1, got 1.5",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(3)),
            ValueError,
            "linear: expected weight of shape (out, in), got (3,)",
        ),
        Bad(
            lambda: F.linear(zeros(), zeros(4, 3)),
            ValueError,
            "linear: expected input with at least one axis, got ()",
        ),
        Bad(
            lambda: F.linear(np.zeros((2, 3), np.int64), zeros(4, 3)),
            TypeError,
            "linear: expected input of dtype float32 or bfloat16, got int64",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), fastnn.tensor(zeros(4, 3), "bfloat16")),
            TypeError,
            "linear: expected weight of dtype float32, got bfloat16",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(4, 3), activation=("softplus", 0.0)),
            ValueError,
            "linear: expected softplus with beta > 0, got 0.0",
        ),
        Bad(
            lambda: F.linear(zeros(2, 3), zeros(4, 3), activation="rely"),
            ValueError,
            f"linear: expected activation to be one of {_KNOWN}, got 'rely'",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_LINEAR,)
