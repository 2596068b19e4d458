"""prelu, maxout and hardtanh: their bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample, exact
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import UNARY, Bad, Bench, Op, Shapes, map_cost, normal, zeros
from fastnn.testing.reference import parametric as reference

__all__ = ["ROWS"]


def _slopes(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """Slopes below 0, between 0 and 1, and above 1."""
    x, a = normal(3.0)(rng, shapes)
    assert a is not None
    return x, np.asarray(rng.uniform(-0.5, 2.0, a.shape))


def prelu(s: Sample) -> tuple[Array, Grads]:
    """One product each, rounded; the parameter's gradient is a float64 sum of exact products."""
    x, a = (np.asarray(v) for v in s.inputs)
    dx, da = (np.asarray(g) for g in s.grads)
    lost = 2.0**-45 * reference.gather(np.abs(s.dy * reference.prelu_slope(x, a)), a)
    return 0.5 * ulp(s.y), (0.5 * ulp(dx), U * np.abs(da) + lost + 2.0**-149)


_PRELU = Op(
    name="fastnn.functional.prelu",
    family="parametric",
    layout="nhwc",
    arrays=("weight",),
    reference=(reference.prelu, reference.prelu_vjp),
    covers=("parametric_fwd", "parametric_bwd", "parametric_bwd_params", "nn.PReLU"),
    params=({},),
    shapes=(
        ((5, 7), (7,)),
        ((5, 7), (1,)),
        ((6,), (1,)),
        ((), ()),
        ((40_001,), (1,)),
        ((300, 100), (100,)),
        ((2, 3, 5, 7), (3,)),
        ((3, 4, 1), (4,)),
        ((0, 4), (4,)),
    ),
    tail=lambda n: (((3, n), (1,)), {}),
    large=(((3000, 70), (70,)), {}),
    make=_slopes,
    bound=prelu,
    bench=Bench((((64, 128), (128,)), ((64, 64, 32, 32), (64,))), map_cost(2)),
    bad=(
        Bad(
            lambda: F.prelu(zeros(2, 3), zeros(2)),
            ValueError,
            "prelu: expected a parameter of shape (1,) or, for each index of axis 1 of input "
            "(2, 3), (3,), got (2,)",
        ),
        Bad(
            lambda: F.prelu(zeros(2, 3), np.zeros(3, np.int64)),
            TypeError,
            "prelu: expected the parameter of dtype float32, got int64",
        ),
    ),
)

_MAXOUT = Op(
    name="fastnn.functional.maxout",
    family="parametric",
    arrays=(),
    reference=(reference.maxout, reference.maxout_vjp),
    covers=("maxout_fwd", "maxout_bwd", "nn.Maxout"),
    params=({},),
    shapes=(((4, 6),), ((2, 3, 70),), ((0, 4),), ((2,),), ((3000, 34),)),
    pairs=((((5, 21),), {"pieces": 3}), (((5, 7),), {"pieces": 1}), (((2, 20),), {"pieces": 20})),
    tail=lambda n: (((3, 2 * n + 2),), {}),
    large=(((3000, 70),), {}),
    make=normal(),
    bound=exact,
    bench=Bench((((64, 256),), ((4096, 1024),)), map_cost(1)),
    bad=(
        Bad(
            lambda: F.maxout(zeros(2, 5), 2),
            ValueError,
            "maxout: expected a last axis that 2 pieces divide, got input (2, 5)",
        ),
        Bad(
            lambda: F.maxout(zeros(2, 4), 0),
            ValueError,
            "maxout: expected pieces >= 1, got 0",
        ),
        Bad(
            lambda: F.maxout(zeros()),
            ValueError,
            "maxout: expected input with at least one axis, got ()",
        ),
    ),
)

_HARDTANH = Op(
    name="fastnn.functional.hardtanh",
    family="parametric",
    layout="memory",
    arrays=(),
    reference=(reference.hardtanh, reference.hardtanh_vjp),
    covers=("hardtanh_fwd", "hardtanh_bwd", "nn.Hardtanh"),
    params=(
        {},
        {"min_val": 0.0, "max_val": 6.0},
        {"min_val": 0.5, "max_val": 0.5},
        {"min_val": -np.inf, "max_val": -2.0},
    ),
    shapes=UNARY,
    tail=lambda n: (((n,),), {}),
    make=normal(3.0),
    bound=exact,
    bench=Bench((((64, 128),), ((1 << 20,),)), map_cost(2)),
    bad=(
        Bad(
            lambda: F.hardtanh(zeros(2), 1.0, -1.0),
            ValueError,
            "hardtanh: expected min_val <= max_val, got 1 and -1",
        ),
        Bad(
            lambda: F.hardtanh(zeros(2), max_val=np.nan),
            ValueError,
            "hardtanh: expected min_val <= max_val, got -1 and nan",
        ),
        Bad(
            lambda: F.hardtanh(np.zeros(2, np.int64)),
            TypeError,
            "hardtanh: expected a floating-point or uint8 Tensor, got int64",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_PRELU, _MAXOUT, _HARDTANH)
