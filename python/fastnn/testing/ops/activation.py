"""Activations: their bounds and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample, exact
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import UNARY, Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.reference import activation as reference

__all__ = ["ROWS"]


def _slope(s: Sample) -> Array:
    """f'(x), from the vjp (dy is never 0)."""
    assert s.grads[0] is not None
    with np.errstate(invalid="ignore"):
        return np.asarray(s.grads[0] / s.dy)


def pointwise(forward: float, backward: float) -> Bound:
    """Forward and slope within so many ULP; one more rounding for slope times dy."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        dx = backward * ulp(_slope(s)) * np.abs(s.dy) + ulp(s.grads[0])  # type: ignore[arg-type]
        return forward * ulp(s.y), (dx,)

    return bound


def scaled_elu(s: Sample) -> tuple[Array, Grads]:
    """expm1 and exp within 2 ULP, times a constant rounded to float32, rounded once more."""
    alpha = abs(s.params.get("alpha", 1.7580993408473768599))
    x = np.minimum(np.asarray(s.inputs[0]), 0.0)
    y = 2 * alpha * ulp(np.expm1(x)) + 2 * U * np.abs(s.y) + ulp(s.y)
    dx = 2 * alpha * ulp(np.exp(x)) * np.abs(s.dy)
    return y, (dx + 3 * U * np.abs(np.asarray(s.grads[0])) + ulp(np.asarray(s.grads[0])),)


def gated(s: Sample) -> tuple[Array, Grads]:
    """Forward 4 ULP everywhere; the slope crosses 0, so 8 u max(1, |slope|)."""
    dx = 8 * U * np.maximum(1.0, np.abs(_slope(s))) * np.abs(s.dy)
    return 4 * ulp(s.y), (dx + ulp(np.asarray(s.grads[0])),)


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
        lambda: F.__dict__[name](np.zeros(2, np.int64)),
        TypeError,
        f"{(kinds or (name,))[0]}: expected a floating-point or uint8 Tensor, got int64",
    )
    return Op(
        name=f"fastnn.functional.{name}",
        family="activation",
        layout="memory",
        arrays=(),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=(*kernels, *modules),
        params=params,
        shapes=UNARY,
        tail=lambda n: (((n,),), {}),
        make=normal(3.0),
        bound=bound,
        bench=Bench((((64, 128),), ((1 << 20,),), ((1 << 24,),)), map_cost(flops)),
        bad=(integers, *bad),
    )


ROWS: tuple[Op, ...] = (
    _activation("relu", exact, ("nn.ReLU",), flops=1),
    _activation("relu6", exact, ("nn.ReLU6",), flops=2),
    _activation("hardsigmoid", pointwise(2, 1), ("nn.Hardsigmoid",), flops=4),
    _activation("hardswish", gated, ("nn.Hardswish",), flops=5),
    _activation("leaky_relu", exact, ("nn.LeakyReLU",), ({}, {"negative_slope": 0.5}), flops=2),
    _activation("elu", scaled_elu, ("nn.ELU",), ({}, {"alpha": 0.5}), flops=15),
    _activation("selu", scaled_elu, ("nn.SELU",), flops=15),
    _activation("sigmoid", pointwise(2, 4), ("nn.Sigmoid",), flops=15),
    _activation("tanh", pointwise(2, 4), ("nn.Tanh",), flops=15),
    _activation(
        "softplus",
        pointwise(2, 2),
        ("nn.Softplus",),
        ({}, {"beta": 2.0}),
        flops=25,
        bad=(
            Bad(
                lambda: F.softplus(zeros(2), 0.0),
                ValueError,
                "softplus: expected beta > 0, got 0.0",
            ),
            Bad(
                lambda: F.softplus(zeros(2), -1.0),
                ValueError,
                "softplus: expected beta > 0, got -1.0",
            ),
        ),
    ),
    _activation("silu", gated, ("nn.SiLU",), flops=16),
    _activation(
        "swish",
        gated,
        ("nn.Swish",),
        ({}, {"beta": 2.0}, {"beta": 0.0}),
        flops=16,
        kinds=("silu",),
    ),
    _activation(
        "gelu",
        gated,
        ("nn.GELU",),
        ({}, {"approximate": "tanh"}),
        flops=30,
        kinds=("gelu", "gelu_tanh"),
        bad=(
            Bad(
                lambda: F.gelu(zeros(2), "erf"),
                ValueError,
                "gelu: expected approximate 'none' or 'tanh', got 'erf'",
            ),
        ),
    ),
)
