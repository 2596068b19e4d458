"""Arithmetic of Tensors and reductions: their inputs, bounds and rows."""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn.testing.bounds import CURVED, STEEPEST, Array, Grads, Sample
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import UNARY, Bad, Bench, Make, Op, Shapes, map_cost, normal, size, zeros
from fastnn.testing.ops.linear import FUSED
from fastnn.testing.reference import arithmetic as reference

__all__ = ["ROWS"]


def denominator(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    x, z = normal()(rng, shapes)
    assert z is not None
    return x, np.where(z < 0, z - 0.5, z + 0.5)


def summed(s: Sample) -> tuple[Array, Grads]:
    """Float64 inside: the scale 1 / n and the result are rounded to float32. 4 u sum|x|."""
    x = np.asarray(s.inputs[0])
    scale = x.size if np.any(s.grads[0] != s.dy) else 1
    return np.asarray(4 * U * np.abs(x).sum() / max(scale, 1)), (2 * U * np.abs(s.grads[0]),)  # type: ignore[arg-type]


def arithmetic(s: Sample) -> tuple[Array, Grads]:
    """Forward is IEEE's own operation: half an ULP. A gradient is at most four of them."""
    return 0.5 * ulp(s.y), tuple(None if g is None else 2.5 * ulp(g) for g in s.grads)


def added(s: Sample) -> tuple[Array, Grads]:
    """Half an ULP; an activation passes that on, as it does the storage of the sum or of y."""
    if s.params.get("activation") is None:
        return arithmetic(s)
    total = np.abs(np.asarray(s.inputs[0]) + np.asarray(s.inputs[1]))
    error = (U + s.store) * total
    slope = CURVED * error + 9 * U + 2 * s.store * np.abs(s.y)
    grads = tuple(slope * np.abs(s.dy) + ulp(np.asarray(g)) for g in s.grads)
    return STEEPEST * error + 4 * ulp(s.y), grads


_BINARY: tuple[Shapes, ...] = tuple((s[0], s[0]) for s in UNARY)
_NORMAL = normal()


def _tensor_op(
    name: str,
    short: str,
    covers: tuple[str, ...],
    make: Make = _NORMAL,
    bad: tuple[Bad, ...] = (),
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> Op:
    return Op(
        name=f"fastnn.Tensor.{name}",
        family="activation",
        layout="memory",
        arrays=("other",),
        reference=(getattr(reference, short), getattr(reference, f"{short}_vjp")),
        covers=covers,
        params=({},),
        shapes=_BINARY,
        tail=lambda n: (((n,), (n,)), {}),
        make=make,
        bound=arithmetic,
        bench=Bench((((1 << 20,), (1 << 20,)),), map_cost(1)),
        bad=bad,
        dtypes=dtypes,
    )


def _reduction(
    name: str,
    short: str,
    covers: tuple[str, ...],
    shapes: tuple[Shapes, ...],
    bad: tuple[Bad, ...] = (),
) -> Op:
    return Op(
        name=f"fastnn.Tensor.{name}",
        family="reduce",
        arrays=(),
        reference=(getattr(reference, short), getattr(reference, f"{short}_vjp")),
        covers=covers,
        params=({},),
        shapes=shapes,
        tail=None,
        make=normal(),
        bound=summed,
        bench=Bench((((1 << 20,),), ((1 << 24,),)), lambda s: (size(s[0]), size(s[0]))),
        bad=bad,
    )


# Without an activation it is Tensor's own operator.
_ADD = Op(
    name="fastnn.functional.add",
    family="activation",
    layout="memory",
    arrays=("other",),
    reference=(reference.add, reference.add_vjp),
    covers=("binary", "add_activation"),
    params=({},),
    shapes=_BINARY,
    pairs=tuple((_BINARY[4], {"activation": a}) for a in FUSED),
    tail=lambda n: (((n,), (n,)), {}),
    make=_NORMAL,
    bound=added,
    bench=Bench((((1 << 20,), (1 << 20,)),), map_cost(1)),
    bad=(
        Bad(
            lambda: fastnn.zeros(2, 3) + zeros(3),
            ValueError,
            "add: expected other of shape (2, 3) like input, got (3,)",
        ),
        Bad(
            lambda: fastnn.functional.add(zeros(2, 3), zeros(3), activation="relu"),
            ValueError,
            "add: expected other of shape (2, 3) like input, got (3,)",
        ),
        Bad(
            lambda: fastnn.functional.add(zeros(2), zeros(2), activation="rely"),
            ValueError,
            "add: expected activation to be one of relu, leaky_relu, elu, selu, sigmoid, tanh, "
            "softplus, silu, gelu, gelu_tanh, relu6, hardsigmoid, hardswish, got 'rely'",
        ),
    ),
)

ROWS: tuple[Op, ...] = (
    _ADD,
    _tensor_op("__sub__", "sub", ("binary",)),
    _tensor_op(
        "__mul__",
        "mul",
        ("binary",),
        bad=(
            Bad(
                lambda: fastnn.zeros(2) * fastnn.zeros(2, dtype="bfloat16"),
                TypeError,
                "mul: expected other of dtype float32 like input, got bfloat16",
            ),
        ),
    ),
    _tensor_op("__truediv__", "div", ("binary",), denominator, dtypes=("float32",)),
    _reduction("sum", "total", ("sum_chunks", "sum_combine", "fill"), UNARY),
    _reduction(
        "mean",
        "mean",
        ("sum_chunks", "sum_combine", "fill"),
        (((),), ((1,),), ((5, 7),), ((40_001,),)),
        (
            Bad(
                lambda: fastnn.zeros(0).mean(),
                ValueError,
                "mean: expected at least one element, got shape (0,)",
            ),
        ),
    ),
)
