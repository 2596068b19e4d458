"""The op table: one row per differentiable op, and one per optimizer.

Test templates, benchmarks and the docs iterate it. To add an op: its oracle in
``reference/<family>.py``, its bound in ``bounds.py``, a row here, and its wrong calls in
``bad_calls.py``; tests/test_ops.py names what is missing. Exceptions are fields of the row, with
their reason; no test body knows an op by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import fastnn
from fastnn.testing import bounds
from fastnn.testing.bad_calls import BAD, zeros
from fastnn.testing.bounds import Bound
from fastnn.testing.op import (
    BINARY,
    ROWS,
    UNARY,
    Bad,
    Bench,
    Make,
    Op,
    Shapes,
    denominator,
    labels,
    linear_cost,
    map_cost,
    matmul_cost,
    normal,
    size,
)
from fastnn.testing.optimizers import OPTIMIZERS
from fastnn.testing.reference import (
    activation,
    arithmetic,
    dropout,
    linear,
    loss,
    norm,
    softmax,
)

__all__ = ["INTERNALS", "OPS", "OPTIMIZERS"]

_F = fastnn.functional
_NORMAL = normal()


def _activation(
    name: str,
    bound: Bound,
    modules: tuple[str, ...],
    params: tuple[dict[str, Any], ...] = ({},),
    *,
    flops: int,
    kinds: tuple[str, ...] = (),
    bad: tuple[Bad, ...] = (),
) -> Op:
    """A row of the activation family; ``kinds`` are its names in the list of functors."""
    kernels = tuple(f"activation_{d}[{k}]" for k in kinds or (name,) for d in ("fwd", "bwd"))
    integers = Bad(
        lambda: _F.__dict__[name](np.zeros(2, np.int64)),
        TypeError,
        f"{(kinds or (name,))[0]}: expected a floating-point or uint8 Tensor, got int64",
    )
    return Op(
        name=f"fastnn.functional.{name}",
        family="activation",
        arrays=(),
        reference=(getattr(activation, name), getattr(activation, f"{name}_vjp")),
        covers=(*kernels, *modules),
        params=params,
        shapes=UNARY,
        tail=lambda n: (((n,),), {}),
        make=normal(3.0),
        bound=bound,
        bench=Bench((((64, 128),), ((1 << 20,),), ((1 << 24,),)), map_cost(flops)),
        bad=(integers, *bad),
        cuda=None,
    )


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
        arrays=("other",),
        reference=(getattr(arithmetic, short), getattr(arithmetic, f"{short}_vjp")),
        covers=covers,
        params=({},),
        shapes=BINARY,
        tail=lambda n: (((n,), (n,)), {}),
        make=make,
        bound=bounds.arithmetic,
        bench=Bench((((1 << 20,), (1 << 20,)),), map_cost(1)),
        bad=bad,
        dtypes=dtypes,
        cuda=None,
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
        reference=(getattr(arithmetic, short), getattr(arithmetic, f"{short}_vjp")),
        covers=covers,
        params=({},),
        shapes=shapes,
        tail=None,
        make=normal(),
        bound=bounds.summed,
        bench=Bench((((1 << 20,),), ((1 << 24,),)), lambda s: (size(s[0]), size(s[0]))),
        bad=bad,
        cuda=None,
    )


def _softmax_op(name: str, modules: tuple[str, ...], flops: int) -> Op:
    return Op(
        name=f"fastnn.functional.{name}",
        family="softmax",
        arrays=(),
        reference=(getattr(softmax, name), getattr(softmax, f"{name}_vjp")),
        covers=(f"{name}_fwd", f"{name}_bwd", *modules),
        params=({},),
        shapes=ROWS,
        tail=lambda n: (((3 if n else 0, n),), {}),
        make=normal(3.0),
        bound=getattr(bounds, name),
        bench=Bench((((64, 10),), ((4096, 1000),), ((256, 32_000),)), map_cost(flops)),
        bad=(
            Bad(
                lambda: _F.__dict__[name](zeros(2, 3), 0),
                ValueError,
                f"{name}: expected dim to be the last axis, -1 or 1, got 0 for input (2, 3)",
            ),
            Bad(
                lambda: _F.__dict__[name](zeros()),
                ValueError,
                f"{name}: expected input with at least one axis, got ()",
            ),
            Bad(
                lambda: _F.__dict__[name](np.zeros((1, 2), np.int64)),
                TypeError,
                f"{name}: expected a floating-point or uint8 Tensor, got int64",
            ),
        ),
    )


_LINEAR_SHAPES: tuple[Shapes, ...] = (
    ((3, 4), (5, 4), (5,)),
    ((3, 4), (5, 4), None),
    ((4,), (1, 4), (1,)),
    ((2, 3, 17), (10, 17), (10,)),
    ((0, 4), (5, 4), (5,)),
    ((3, 0), (5, 0), (5,)),
    ((3, 4), (0, 4), (0,)),
    ((65, 129), (33, 129), (33,)),
    ((230, 300), (210, 300), (210,)),
)
_FUSED: tuple[linear.Activation, ...] = (
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

_LINEAR = Op(
    name="fastnn.functional.linear",
    family="linear",
    arrays=("weight", "bias"),
    reference=(linear.linear, linear.linear_vjp),
    covers=(
        "gemm_pack",
        "gemm_packed",
        "gemm_small",
        "linear_bwd",
        "nn.Linear",
        "activation_fwd[identity]",
        "activation_bwd[identity]",
    ),
    params=({},),
    shapes=_LINEAR_SHAPES,
    pairs=tuple((shapes, {"activation": a}) for a in _FUSED for shapes in _LINEAR_SHAPES[2:5]),
    tail=lambda n: (((3, n), (2, n), (2,)), {}),
    make=normal(),
    bound=bounds.linear,
    bench=Bench(
        tuple(
            ((m, k), (n, k), (n,))
            for m, n, k in ((64, 128, 128), (256, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096))
        ),
        linear_cost,
    ),
    dtypes=("float32",),
    bad=BAD["linear"],
)

_MATMUL = Op(
    name="fastnn.Tensor.__matmul__",
    family="linear",
    arrays=("other",),
    reference=(linear.matmul, linear.matmul_vjp),
    covers=("gemm_pack", "gemm_packed", "gemm_small"),
    params=({},),
    shapes=(
        ((3, 4), (4, 5)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((3, 4), (4, 0)),
        ((1, 1), (1, 1)),
        ((70, 33), (33, 90)),
        ((210, 260), (260, 200)),
    ),
    tail=lambda n: (((3, n), (n, 2)), {}),
    make=normal(),
    bound=bounds.matmul,
    bench=Bench((((64, 128), (128, 128)), ((1024, 1024), (1024, 1024))), matmul_cost),
    dtypes=("float32",),
    bad=BAD["matmul"],
)

_LAYER_NORM = Op(
    name="fastnn.functional.layer_norm",
    family="norm",
    arrays=("weight", "bias"),
    reference=(norm.layer_norm, norm.layer_norm_vjp),
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
    ),
    make=normal(),
    bound=bounds.layer_norm,
    bench=Bench((((64, 128), (128,), (128,)), ((4096, 1024), (1024,), (1024,))), map_cost(8)),
    bad=BAD["layer_norm"],
    cuda=None,
)

_CROSS_ENTROPY = Op(
    name="fastnn.functional.cross_entropy",
    family="loss",
    arrays=("target",),
    reference=(loss.cross_entropy, loss.cross_entropy_vjp),
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
    bound=bounds.cross_entropy,
    bench=Bench((((64, 10), (64,)), ((4096, 1000), (4096,))), map_cost(20)),
    bad=BAD["cross_entropy"],
)

_DROPOUT = Op(
    name="fastnn.functional.dropout",
    family="dropout",
    arrays=(),
    reference=(dropout.dropout, dropout.dropout_vjp),
    covers=("dropout", "rng_draw", "nn.Dropout"),
    params=({}, {"p": 0.1}, {"p": 0.0}, {"p": 1.0}, {"p": 0.5, "training": False}),
    shapes=UNARY,
    tail=lambda n: (((n,),), {}),
    make=normal(),
    bound=bounds.dropout,
    bench=Bench((((64, 128),), ((1 << 20,),)), map_cost(2)),
    bad=BAD["dropout"],
    cuda=None,
)


OPS: tuple[Op, ...] = (
    _activation("relu", bounds.exact, ("nn.ReLU",), flops=1),
    _activation(
        "leaky_relu", bounds.exact, ("nn.LeakyReLU",), ({}, {"negative_slope": 0.5}), flops=2
    ),
    _activation("elu", bounds.scaled_elu, ("nn.ELU",), ({}, {"alpha": 0.5}), flops=15),
    _activation("selu", bounds.scaled_elu, ("nn.SELU",), flops=15),
    _activation("sigmoid", bounds.pointwise(2, 4), ("nn.Sigmoid",), flops=15),
    _activation("tanh", bounds.pointwise(2, 4), ("nn.Tanh",), flops=15),
    _activation(
        "softplus",
        bounds.pointwise(2, 2),
        ("nn.Softplus",),
        ({}, {"beta": 2.0}),
        flops=25,
        bad=BAD["softplus"],
    ),
    _activation("silu", bounds.gated, ("nn.SiLU",), flops=16),
    _activation(
        "swish",
        bounds.gated,
        ("nn.Swish",),
        ({}, {"beta": 2.0}, {"beta": 0.0}),
        flops=16,
        kinds=("silu",),
    ),
    _activation(
        "gelu",
        bounds.gated,
        ("nn.GELU",),
        ({}, {"approximate": "tanh"}),
        flops=30,
        kinds=("gelu", "gelu_tanh"),
        bad=BAD["gelu"],
    ),
    _LINEAR,
    _MATMUL,
    _LAYER_NORM,
    _softmax_op("softmax", ("nn.Softmax",), 20),
    _softmax_op("log_softmax", ("nn.LogSoftmax",), 20),
    _softmax_op("logsumexp", (), 18),
    _CROSS_ENTROPY,
    _DROPOUT,
    _tensor_op("__add__", "add", ("binary",), bad=BAD["add"]),
    _tensor_op("__sub__", "sub", ("binary",)),
    _tensor_op("__mul__", "mul", ("binary",), bad=BAD["mul"]),
    _tensor_op("__truediv__", "div", ("binary",), denominator, dtypes=("float32",)),
    _reduction("sum", "total", ("sum_chunks", "sum_combine", "fill"), UNARY),
    _reduction(
        "mean",
        "mean",
        ("sum_chunks", "sum_combine", "fill"),
        (((),), ((1,),), ((5, 7),), ((40_001,),)),
        BAD["mean"],
    ),
)


# Kernels behind no differentiable op, and the test file that holds each to its definition.
INTERNALS: Mapping[str, str] = {
    "uniform": "test_random.py",
    "shuffle_keys": "test_random.py",
    "rng_draw": "test_random.py",
    "to_float32": "test_arrays.py",
    "from_float32": "test_arrays.py",
    "count_correct": "test_counters.py",
    "accumulate": "test_counters.py",
    "gather": "test_counters.py",
    "advance": "test_counters.py",
    "grad_norm_chunks": "test_clip.py",
    "grad_norm_combine": "test_clip.py",
    "grad_scale": "test_clip.py",
}
