"""Dropout and its relatives: their bounds and rows."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import UNARY, Bad, Bench, Op, Shapes, map_cost, normal, zeros
from fastnn.testing.ops.linear import linear_cost
from fastnn.testing.reference import dropout as reference

__all__ = ["ROWS"]


def dropout(s: Sample) -> tuple[Array, Grads]:
    """The scale and the product are rounded: 1 ULP each at most half."""
    return ulp(s.y) * (s.y != 0), (ulp(np.asarray(s.grads[0])) * (s.grads[0] != 0),)


def alpha_dropout(s: Sample) -> tuple[Array, Grads]:
    """a and b are rounded to float32, and the multiply-add once more."""
    a, b = reference._alpha(s.params.get("p", 0.5))
    y = 2 * U * (a * np.abs(np.asarray(s.inputs[0])) + 3 * abs(b)) + ulp(s.y)
    active = s.params.get("training", True) and s.params.get("p", 0.5) > 0
    return y * active, (ulp(np.asarray(s.grads[0])) * (s.grads[0] != 0),)


_NORMAL = 8 * U  # relative error of standard_normal: its polynomials are good to 3.5e-7


def gaussian_dropout(s: Sample) -> tuple[Array, Grads]:
    """The factor 1 + sigma z: z's error, and three roundings."""
    if not s.params.get("training", True):
        return 0 * s.y, (0 * s.y,)
    p = s.params.get("p", 0.5)
    noise = np.sqrt(p / (1 - p)) * np.abs(reference.standard_normal(s.y.shape))
    factor = (_NORMAL + 2 * U) * noise + U * (1 + noise)

    def bound(x: Array, y: Array) -> Array:
        return np.asarray(factor * np.abs(x) + ulp(y))

    with np.errstate(invalid="ignore"):
        return bound(np.asarray(s.inputs[0]), s.y), (bound(s.dy, np.asarray(s.grads[0])),)


def poisson_dropout(s: Sample) -> tuple[Array, Grads]:
    """1 / rate, its product with k, and that with x are rounded."""
    return 2 * ulp(s.y), (2 * ulp(np.asarray(s.grads[0])),)


def drop_connect(s: Sample) -> tuple[Array, Grads]:
    """A product's 16 u of its terms, and 2 u of the factor that each weight has.

    A draw adds 16 u of the variance's terms (half of that in its root), and z's error."""
    x, w, b = s.inputs
    p, training = s.params.get("p", 0.5), s.params.get("training", True)
    mode = s.params.get("mode", "inverted")
    terms = [np.abs(np.asarray(v)) for v in (x, w)]
    bias = None if b is None else np.abs(b)
    scaled = np.abs(reference._weights(terms[1], p, training, mode)) * terms[1]
    y = 18 * U * (terms[0] @ scaled.T + (0.0 if bias is None else bias)) + U * np.abs(s.y)
    dx, dw, db = reference.drop_connect_vjp(
        np.abs(s.dy), terms[0], terms[1], bias, p, training, mode
    )
    assert dx is not None
    assert dw is not None
    if not training and s.params.get("inference", "mean") == "sample" and p > 0:
        factor = reference.mask_variance(p, mode)
        deviation = np.sqrt(factor * (terms[0] ** 2) @ (terms[1] ** 2).T)
        z = np.abs(reference.standard_normal(s.y.shape))
        y = y + (12 * U + _NORMAL) * z * deviation
        slope = np.divide(z, 2 * deviation, out=np.zeros_like(z), where=deviation > 0)
        dv = (factor * np.abs(s.dy) * slope).reshape(-1, terms[1].shape[0])
        rows = terms[0].reshape(len(dv), terms[0].shape[-1])
        dx = dx + 3 * 2 * terms[0] * (dv @ terms[1] ** 2).reshape(terms[0].shape)
        dw = dw + 3 * 2 * terms[1] * (dv.T @ rows**2)
    return y, (18 * U * dx, 18 * U * dw, None if db is None else 4 * U * db)


def _integers(name: str, call: object, op: str | None = None) -> Bad:
    return Bad(
        lambda: call(np.zeros((2, 2, 2), np.int64)),  # type: ignore[operator]
        TypeError,
        f"{op or name}: expected a floating-point or uint8 Tensor, got int64",
    )


def _probability(name: str, call: object, rule: str = "0 <= p <= 1") -> Bad:
    return Bad(
        lambda: call(zeros(2, 3, 4), p=1.5),  # type: ignore[operator]
        ValueError,
        f"{name}: expected {rule}, got 1.5",
    )


_DROPOUT = Op(
    name="fastnn.functional.dropout",
    family="dropout",
    layout="memory",
    arrays=(),
    reference=(reference.dropout, reference.dropout_vjp),
    covers=("dropout", "rng_draw", "nn.Dropout"),
    params=(
        {},
        {"p": 0.1},
        {"p": 0.0},
        {"p": 1.0},
        {"p": 0.5, "training": False},
        {"p": 0.3, "mode": "vanilla"},
        {"p": 0.3, "mode": "vanilla", "training": False},
        {"p": 1.0, "mode": "vanilla"},
    ),
    shapes=UNARY,
    tail=lambda n: (((n,),), {}),
    make=normal(),
    bound=dropout,
    bench=Bench((((64, 128),), ((1 << 20,),), ((1 << 24,),)), map_cost(2)),
    bad=(
        Bad(lambda: F.dropout(zeros(2), 1.5), ValueError, "dropout: expected 0 <= p <= 1, got 1.5"),
        Bad(
            lambda: F.dropout(zeros(2), -0.1),
            ValueError,
            "dropout: expected 0 <= p <= 1, got -0.1",
        ),
        Bad(
            lambda: F.dropout(zeros(2), float("nan")),
            ValueError,
            "dropout: expected 0 <= p <= 1, got nan",
        ),
        Bad(
            lambda: F.dropout(zeros(2), mode="inverse"),
            ValueError,
            "dropout: expected mode 'inverted' or 'vanilla', got 'inverse'",
        ),
        _integers("dropout", F.dropout),
    ),
)


def _spatial(name: str, module: str, shapes: tuple[Shapes, ...], expected: str) -> Op:
    call = getattr(F, name)
    return Op(
        name=f"fastnn.functional.{name}",
        family="dropout",
        layout="nhwc" if "2d" in name else "nchw",
        arrays=(),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=("dropout_rows", f"nn.{module}"),
        params=({}, {"p": 0.1}, {"p": 0.0}, {"p": 1.0}, {"p": 0.5, "training": False}),
        shapes=shapes,
        tail=None,
        make=normal(),
        bound=dropout,
        bench=Bench(shapes[-1:], map_cost(1)),
        bad=(
            _probability(name, call),
            Bad(
                lambda: call(zeros(3)),
                ValueError,
                f"{name}: expected input of shape {expected} or a batch of it, got (3,)",
            ),
            _integers(name, call, "dropout"),
        ),
        large=(shapes[-1], {}),
    )


_STOCHASTIC_DEPTH = Op(
    name="fastnn.functional.stochastic_depth",
    family="dropout",
    layout="memory",
    arrays=(),
    reference=(reference.stochastic_depth, reference.stochastic_depth_vjp),
    covers=("dropout_rows", "nn.StochasticDepth"),
    params=tuple(
        {"p": p, "mode": mode, "scaling": scaling, "training": training}
        for p, training in ((0.3, True), (0.3, False), (0.0, True), (1.0, True))
        for mode in ("row", "batch")
        for scaling in ("inverted", "vanilla")
    ),
    shapes=(((9, 2, 3),), ((5,),), ((0, 3),), ((3, 0),), ((4, 2, 3, 5),), ((40, 1000),)),
    tail=None,
    make=normal(),
    bound=dropout,
    bench=Bench((((64, 64, 32, 32),),), map_cost(1)),
    bad=(
        Bad(
            lambda: F.stochastic_depth(zeros(2), -1.0, "row"),
            ValueError,
            "stochastic_depth: expected 0 <= p <= 1, got -1.0",
        ),
        Bad(
            lambda: F.stochastic_depth(zeros(2), 0.5, "rows"),
            ValueError,
            "stochastic_depth: expected mode 'batch' or 'row', got 'rows'",
        ),
        Bad(
            lambda: F.stochastic_depth(zeros(2), 0.5, "row", scaling="none"),
            ValueError,
            "stochastic_depth: expected scaling 'inverted' or 'vanilla', got 'none'",
        ),
        Bad(
            lambda: F.stochastic_depth(zeros(), 0.5, "row"),
            ValueError,
            "stochastic_depth: expected input with at least one axis, got ()",
        ),
    ),
    large=(((40, 10_000),), {"p": 0.3, "mode": "row"}),
)


def _noise(name: str, module: str, covers: str, bad: tuple[Bad, ...]) -> Op:
    call = getattr(F, name)
    return Op(
        name=f"fastnn.functional.{name}",
        family="dropout",
        layout="memory",
        arrays=(),
        reference=(getattr(reference, name), getattr(reference, f"{name}_vjp")),
        covers=(covers, f"nn.{module}"),
        params=({}, {"p": 0.1}, {"p": 0.0}, {"p": 0.9}, {"p": 0.5, "training": False}),
        shapes=UNARY,
        tail=lambda n: (((n,),), {}),
        make=normal(),
        bound=globals()[name],
        bench=Bench((((64, 128),), ((1 << 20,),)), map_cost(20)),
        bad=(*bad, _integers(name, call)),
    )


_DROP_CONNECT_SHAPES: tuple[Shapes, ...] = (
    ((3, 4), (5, 4), (5,)),
    ((2, 3, 17), (10, 17), None),
    ((0, 4), (5, 4), (5,)),
    ((3, 0), (5, 0), (5,)),
    ((65, 129), (33, 129), (33,)),
)
_DROP_CONNECT = Op(
    name="fastnn.functional.drop_connect",
    family="dropout",
    arrays=("weight", "bias"),
    reference=(reference.drop_connect, reference.drop_connect_vjp),
    covers=("dropout", "sample_normal", "sample_normal_bwd", "nn.DropConnect"),
    params=(
        {},
        {"p": 0.0},
        {"p": 1.0},
        *(
            {"p": 0.3, "mode": mode, "training": training, "inference": inference}
            for mode in ("inverted", "vanilla")
            for training, inference in ((True, "mean"), (False, "mean"), (False, "sample"))
        ),
    ),
    shapes=_DROP_CONNECT_SHAPES,
    tail=None,
    make=normal(),
    bound=drop_connect,
    bench=Bench((((256, 512), (512, 512), (512,)),), linear_cost),
    dtypes=("float32",),
    bad=(
        Bad(
            lambda: F.drop_connect(zeros(2, 3), zeros(4, 3), p=2.0),
            ValueError,
            "drop_connect: expected 0 <= p <= 1, got 2.0",
        ),
        Bad(
            lambda: F.drop_connect(zeros(2, 3), zeros(4, 3), mode="both"),
            ValueError,
            "drop_connect: expected mode 'inverted' or 'vanilla', got 'both'",
        ),
        Bad(
            lambda: F.drop_connect(zeros(2, 3), zeros(4, 3), inference="max"),
            ValueError,
            "drop_connect: expected inference 'mean' or 'sample', got 'max'",
        ),
        Bad(
            lambda: F.drop_connect(zeros(2, 3), zeros(4, 5)),
            ValueError,
            "linear: expected input.shape[-1] == 5 to fit weight (4, 5), got input (2, 3)",
        ),
    ),
    large=(((300, 200), (250, 200), (250,)), {}),
)

ROWS: tuple[Op, ...] = (
    _DROPOUT,
    _spatial(
        "dropout1d",
        "Dropout1d",
        (((2, 3, 7),), ((3, 7),), ((2, 0, 7),), ((5, 4, 1),), ((16, 30, 500),)),
        "(channels, length)",
    ),
    _spatial(
        "dropout2d",
        "Dropout2d",
        (((2, 3, 7, 5),), ((3, 7, 5),), ((0, 3, 2, 2),), ((5, 4, 1, 1),), ((16, 30, 20, 25),)),
        "(channels, height, width)",
    ),
    _noise(
        "alpha_dropout",
        "AlphaDropout",
        "dropout",
        (_probability("alpha_dropout", F.alpha_dropout),),
    ),
    _noise(
        "gaussian_dropout",
        "GaussianDropout",
        "gaussian_dropout",
        (_probability("gaussian_dropout", F.gaussian_dropout, "0 <= p < 1"),),
    ),
    _noise(
        "poisson_dropout",
        "PoissonDropout",
        "poisson_dropout",
        (_probability("poisson_dropout", F.poisson_dropout, "p = 0 or 2^-16 <= p < 1"),),
    ),
    _DROP_CONNECT,
    _STOCHASTIC_DEPTH,
)
