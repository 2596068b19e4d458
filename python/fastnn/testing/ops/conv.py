"""Convolutions: their bound, costs and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample, activated, rounded
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Case, Op, Shapes, normal, size, zeros
from fastnn.testing.ops.linear import FUSED
from fastnn.testing.reference import conv as reference

__all__ = ["ROWS"]


def conv(forward: Callable[..., Array], vjp: Callable[..., Grads]) -> Bound:
    """16 u of the sum of magnitudes, and what the activation makes of it: linear's bound."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        x, w, b = (None if v is None else np.asarray(v) for v in s.inputs)
        assert x is not None
        assert w is not None
        options = {k: v for k, v in s.params.items() if k != "activation"}
        sizes = (np.abs(x), np.abs(w), None if b is None else np.abs(b))
        z_error = 16 * U * forward(*sizes, **options)
        z = forward(x, w, b, **options)
        activation = s.params.get("activation")
        y, dz_error, dz_size = activated(z, z_error, s, activation)
        if activation is not None:
            dz_error = rounded(z, dz_error, dz_size, s)
        of_sums, of_errors = (vjp(d, *sizes, **options) for d in (dz_size, dz_error))
        grads = tuple(
            None if e is None or d is None else c * U * d + e
            for c, d, e in zip((16, 16, 4), of_sums, of_errors, strict=True)
        )
        return y, grads

    return bound


# Goal C18, a channel per group, and the like for the others: shapes with their arguments.
_TIMED: dict[str, dict[Shapes, dict[str, Any]]] = {
    "conv2d": {
        ((64, 64, 32, 32), (64, 64, 3, 3), (64,)): {"padding": 1},
        ((64, 1, 28, 28), (6, 1, 5, 5), (6,)): {"padding": 2},
        ((64, 6, 14, 14), (16, 6, 5, 5), (16,)): {"padding": 0},
        ((32, 64, 32, 32), (64, 1, 3, 3), (64,)): {"padding": 1, "groups": 64},
    },
    "conv1d": {((64, 64, 1024), (64, 64, 3), (64,)): {"padding": 1}},
    "conv_transpose2d": {((64, 64, 16, 16), (64, 32, 4, 4), (32,)): {"stride": 2, "padding": 1}},
}


def _bench(name: str) -> Bench:
    timed = _TIMED[name]

    def cost(s: Shapes) -> tuple[int, int]:
        """Every position of the narrow side takes the kernel once."""
        x, w, options = s[0], s[1], timed[s]
        assert x is not None
        assert w is not None
        spread = name == "conv_transpose2d"
        lost = 0 if spread else w[-1] - 1 - 2 * options["padding"]
        positions = x[0] * int(np.prod([n - lost for n in x[2:]]))
        outputs = positions * (w[1] * options["stride"] ** 2 if spread else w[0])
        return sum(map(size, s)) + outputs, 2 * positions * size(w)

    return Bench(tuple(timed), cost, tuple(timed.values()))


def _weighted(
    x: tuple[int, ...], *cases: tuple[tuple[int, ...], dict[str, Any]]
) -> tuple[Case, ...]:
    """Cases of one input: weights with a bias, and the other arguments."""
    return tuple(((x, w, (w[0],)), options) for w, options in cases)


_SAME = {"padding": "same"}
_PLAIN: tuple[Shapes, ...] = (
    ((2, 3, 5, 6), (4, 3, 3, 2), (4,)),
    ((3, 8, 7), (1, 3, 1, 1), None),
    ((0, 2, 5, 5), (3, 2, 3, 3), (3,)),
    ((2, 2, 4, 5), (3, 2, 4, 5), (3,)),
    ((3, 1, 12, 12), (6, 1, 5, 5), (6,)),
    ((1, 45, 9, 11), (17, 45, 3, 3), (17,)),
    ((1, 2, 3, 70), (25, 2, 1, 3), None),
)
_OPTIONS = (
    *_weighted(
        (2, 4, 9, 11),
        ((6, 4, 3, 3), {"padding": 1}),
        ((6, 4, 3, 3), {"stride": 2, "padding": 1}),
        ((6, 4, 3, 2), {"stride": (3, 2), "padding": (2, 0), "dilation": (1, 3)}),
        ((5, 4, 3, 3), {"dilation": 2, "stride": 2, "padding": 2}),
        ((5, 4, 1, 1), {"stride": 2}),
        ((5, 4, 2, 2), {"stride": 4, "padding": 3}),
        ((5, 4, 3, 3), {"padding": 5}),
        ((6, 2, 3, 3), {"groups": 2, "padding": 1}),
        ((4, 1, 3, 3), {"groups": 4, "padding": 1}),
        ((8, 1, 3, 3), {"groups": 4, "stride": 2}),
        ((6, 4, 2, 4), _SAME),
        ((6, 4, 3, 3), {"padding": "same", "dilation": (2, 3)}),
        ((6, 4, 3, 3), {"padding": "valid"}),
    ),
    *((s, {"activation": a, "padding": 2}) for a in FUSED for s in _PLAIN[:1]),
    *((_PLAIN[5], {"activation": a, "stride": 2}) for a in ("relu", "gelu")),
)
_LINES = (
    ((2, 3, 11), (4, 3, 3), (4,)),
    ((3, 8), (2, 3, 1), None),
    ((0, 3, 6), (4, 3, 3), (4,)),
    ((2, 1, 133), (20, 1, 5), (20,)),
)
_LINE_OPTIONS = _weighted(
    (2, 4, 21),
    ((6, 4, 3), {"padding": 1, "activation": "relu"}),
    ((6, 4, 4), _SAME),
    ((6, 4, 3), {"stride": 3, "dilation": 2, "padding": 4}),
    ((4, 1, 3), {"groups": 4}),
)
_TRANSPOSED = (
    ((2, 3, 5, 6), (3, 4, 3, 2), (4,)),
    ((3, 4, 5), (3, 2, 1, 1), None),
    ((0, 2, 5, 5), (2, 3, 3, 3), (3,)),
    ((1, 20, 9, 11), (20, 7, 3, 3), (7,)),
)
_TRANSPOSED_OPTIONS: tuple[Case, ...] = tuple(
    (((2, 4, 5, 6), w, (w[1] * o.get("groups", 1),)), o)  # type: ignore[operator]
    for w, o in (
        ((4, 6, 3, 3), {"stride": 2}),
        ((4, 6, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((4, 6, 2, 3), {"stride": (3, 2), "padding": (0, 1), "output_padding": (2, 0)}),
        ((4, 6, 3, 3), {"dilation": 2, "padding": 3, "output_padding": 1}),
        ((4, 6, 1, 1), {"stride": 3, "output_padding": 2}),
        ((4, 2, 3, 3), {"groups": 2, "stride": 2, "activation": "tanh"}),
        ((4, 1, 4, 4), {"groups": 4, "stride": 2, "padding": 1, "activation": "gelu"}),
    )
)


def _wrong_window(op: str, call: Callable[..., Any]) -> tuple[Bad, ...]:
    """What all of two axes refuse; the weight fits as (out, in, ...) and as (in, out, ...)."""
    x, w = zeros(1, 4, 5, 5), zeros(4, 4, 3, 3)

    def bad(message: str, *args: Any, error: type[Exception] = ValueError, **options: Any) -> Bad:
        return Bad(lambda: call(*(args or (x, w)), **options), error, f"{op}: expected {message}")

    return (
        bad("groups > 0, got 0", groups=0),
        bad("stride > 0, got (1, 0)", stride=(1, 0)),
        bad("dilation > 0, got (0, 0)", dilation=0),
        bad("padding >= 0, got (-1, -1)", padding=-1),
        bad("stride to be 2 numbers or one, got (1, 2, 3)", stride=(1, 2, 3)),
        bad(
            "weight.shape[0] divisible by groups 3, got weight (4, 4, 3, 3)",
            groups=3,
        ),
        bad(
            "input of shape (channels, height, width) or a batch of it, got (5, 5)",
            zeros(5, 5),
            w,
        ),
        bad("a kernel with at least one element, got weight (4, 4, 0, 3)", x, zeros(4, 4, 0, 3)),
        bad("bias of shape (4,) to fit weight (4, 4, 3, 3), got (3,)", x, w, zeros(3)),
        bad(
            "input of dtype float32, got int64",
            np.zeros((1, 4, 5, 5), np.int64),
            w,
            error=TypeError,
        ),
        bad(
            "weight of dtype float32, got bfloat16",
            x,
            fastnn.tensor(w, "bfloat16"),
            error=TypeError,
        ),
    )


_WRONG = (
    *_wrong_window("conv2d", F.conv2d),
    Bad(
        lambda: F.conv2d(zeros(1, 2, 5, 5), zeros(4, 3, 3, 3)),
        ValueError,
        "conv2d: expected input with 3 channels to fit weight (4, 3, 3, 3) and groups 1, "
        "got input (1, 2, 5, 5)",
    ),
    Bad(
        lambda: F.conv2d(zeros(1, 2, 5, 5), zeros(4, 3, 3)),
        ValueError,
        "conv2d: expected weight of shape (out, in / groups, height, width), got (4, 3, 3)",
    ),
    Bad(
        lambda: F.conv2d(zeros(1, 2, 5, 2), zeros(4, 2, 3, 3), dilation=2),
        ValueError,
        "conv2d: expected a kernel of (3, 3) to fit into input (1, 2, 5, 2) with padding (0, 0) "
        "and dilation (2, 2)",
    ),
    Bad(
        lambda: F.conv2d(zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), stride=2, padding="same"),
        ValueError,
        "conv2d: expected stride 1 with padding 'same', got (2, 2)",
    ),
    Bad(
        lambda: F.conv2d(zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), padding="full"),
        ValueError,
        "conv2d: expected padding to be numbers, 'valid' or 'same', got 'full'",
    ),
)
_WRONG_LINE = (
    Bad(
        lambda: F.conv1d(zeros(1, 2, 5), zeros(4, 2, 3), stride=1 << 32),
        ValueError,
        "conv1d: expected stride, dilation and padding <= 2147483647, got 4294967296",
    ),
    Bad(
        lambda: F.conv1d(zeros(1, 2, 5), zeros(4, 2, 3), padding=1 << 30, dilation=1 << 30),
        ValueError,
        "conv1d: expected at most 2147483647 places along an axis, got an input of 5 with padding "
        "1073741824 and a kernel that reaches 2147483648",
    ),
    Bad(
        lambda: F.conv1d(zeros(1, 64, 5), zeros(4, 64, 3), padding=1 << 25, dilation=1 << 25),
        ValueError,
        "conv1d: expected a row of outputs to read at most 2147483647 floats, got 4294967872; use "
        "less dilation, or more groups",
    ),
    Bad(
        lambda: F.conv1d(zeros(1, 2, 5), zeros(4, 2, 3), padding=(1, 1)),
        ValueError,
        "conv1d: expected padding to be 1 numbers or one, got (1, 1)",
    ),
    Bad(
        lambda: F.conv1d(zeros(1, 2, 2), zeros(4, 2, 3)),
        ValueError,
        "conv1d: expected a kernel of 3 to fit into input (1, 2, 2) with padding 0 and dilation 1",
    ),
    Bad(
        lambda: F.conv1d(zeros(1, 2, 5, 5), zeros(4, 2, 3)),
        ValueError,
        "conv1d: expected input of shape (channels, length) or a batch of it, got (1, 2, 5, 5)",
    ),
)
_WRONG_TRANSPOSED = (
    *_wrong_window("conv_transpose2d", F.conv_transpose2d),
    Bad(
        lambda: F.conv_transpose2d(zeros(1, 2, 5, 5), zeros(3, 4, 3, 3)),
        ValueError,
        "conv_transpose2d: expected input with 3 channels to fit weight (3, 4, 3, 3), "
        "got input (1, 2, 5, 5)",
    ),
    Bad(
        lambda: F.conv_transpose2d(
            zeros(1, 2, 5, 5), zeros(2, 4, 3, 3), stride=2, output_padding=2
        ),
        ValueError,
        "conv_transpose2d: expected 0 <= output_padding < max(stride, dilation), got (2, 2)",
    ),
    Bad(
        lambda: F.conv_transpose2d(zeros(1, 2, 1, 1), zeros(2, 4, 3, 3), padding=2),
        ValueError,
        "conv_transpose2d: expected an output with at least one element, got input (1, 2, 1, 1) "
        "with padding (2, 2)",
    ),
)


def _row(
    name: str,
    module: str,
    functions: tuple[Any, Any],
    cases: tuple[tuple[Shapes, ...], tuple[Case, ...]],
    bad: tuple[Bad, ...],
    large: Case,
) -> Op:
    return Op(
        name=f"fastnn.functional.{name}",
        family="conv",
        layout="nhwc" if "2d" in name else "nchw",
        arrays=("weight", "bias"),
        reference=functions,
        covers=(
            "conv",
            "conv_pack",
            "conv_phases",
            "conv_bwd_weight",
            "conv_bwd_weight_sum",
            "conv_bwd_bias",
            f"nn.{module}",
        ),
        params=({},),
        shapes=cases[0],
        pairs=cases[1],
        tail=None,
        make=normal(),
        bound=conv(*functions),
        bench=_bench(name),
        dtypes=("float32",),
        bad=bad,
        cuda_dtypes=("float32", "bfloat16"),
        large=large,
    )


_CONV = (reference.conv, reference.conv_vjp)
_BACK = (reference.conv_transpose2d, reference.conv_transpose2d_vjp)

ROWS: tuple[Op, ...] = (
    _row(
        "conv2d",
        "Conv2d",
        _CONV,
        (_PLAIN, _OPTIONS),
        _WRONG,
        (((20, 5, 19, 18), (13, 5, 3, 3), (13,)), {"padding": 1, "activation": "gelu"}),
    ),
    _row(
        "conv1d",
        "Conv1d",
        _CONV,
        (_LINES, _LINE_OPTIONS),
        _WRONG_LINE,
        (((20, 5, 333), (13, 5, 3), (13,)), {"stride": 2}),
    ),
    _row(
        "conv_transpose2d",
        "ConvTranspose2d",
        _BACK,
        (_TRANSPOSED, _TRANSPOSED_OPTIONS),
        _WRONG_TRANSPOSED,
        (((20, 5, 19, 18), (5, 9, 3, 3), (9,)), {"stride": 2, "padding": 1, "activation": "relu"}),
    ),
)
