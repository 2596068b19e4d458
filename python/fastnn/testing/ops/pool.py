"""Pooling: its bounds and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Bound, Grads, Sample
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import Bad, Bench, Op, Shapes, normal, size, zeros
from fastnn.testing.reference import pool as reference

__all__ = ["ROWS"]


def max_pool(vjp: Callable[..., Grads]) -> Bound:
    """The largest element as it is; where n windows share one, its gradient is a sum in float32."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        terms = vjp(np.abs(s.dy), s.inputs[0], **s.params)[0]
        count = vjp(np.ones(s.dy.shape), s.inputs[0], **s.params)[0]
        return 0 * s.y, (np.maximum(np.asarray(count) - 1, 0) * U * np.asarray(terms),)

    return bound


def avg_pool(s: Sample) -> tuple[Array, Grads]:
    """Sums and the division are float64: the result is rounded once."""
    return ulp(s.y), (ulp(np.asarray(s.grads[0])),)


def _moved(windows: int) -> Any:
    def cost(shapes: Shapes) -> tuple[int, int]:
        n = size(shapes[0])
        return n + n // windows, n

    return cost


def _row(
    name: str,
    module: str,
    covers: tuple[str, ...],
    params: tuple[dict[str, Any], ...],
    shapes: tuple[Shapes, ...],
    bad: tuple[Bad, ...],
    large: Shapes,
    bench: tuple[Shapes, ...],
    bench_windows: int,
) -> Op:
    vjp = getattr(reference, f"{name}_vjp")

    return Op(
        name=f"fastnn.functional.{name}",
        family="pool",
        layout="nhwc" if "2d" in name else "nchw",
        arrays=(),
        reference=(getattr(reference, name), vjp),
        covers=(*covers, f"nn.{module}"),
        params=params,
        shapes=shapes,
        tail=None,
        make=normal(),
        bound=max_pool(vjp) if "max" in name else avg_pool,
        bench=Bench(bench, _moved(bench_windows)),
        bad=bad,
        large=(large, params[0]),
    )


_GRIDS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
)
_PLANES: tuple[Shapes, ...] = (
    ((2, 3, 9, 11),),
    ((3, 8, 6),),
    ((0, 3, 6, 6),),
    ((1, 1, 5, 70),),
    ((40, 10, 12, 14),),
)
_LINES: tuple[Shapes, ...] = (((2, 3, 11),), ((3, 8),), ((0, 3, 6),), ((2, 3, 133),))
_ON_MANY: Shapes = ((30, 20, 33, 35),)
_GOAL: tuple[Shapes, ...] = (((64, 64, 32, 32),),)


def _wrong(name: str, label: str, call: Any) -> tuple[Bad, ...]:
    """What pooling on a grid of two axes refuses, by the names of the op and of its kernels."""
    return (
        Bad(
            lambda: call(zeros(5, 5), 2),
            ValueError,
            f"{name}: expected input of shape (channels, height, width) or a batch of it, "
            "got (5, 5)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), 2, 0),
            ValueError,
            f"{name}: expected stride > 0, got (0, 0)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), 2, 1 << 40),
            ValueError,
            f"{name}: expected kernel_size, stride and dilation <= 2147483647, got 1099511627776",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), (2, 0)),
            ValueError,
            f"{name}: expected kernel_size > 0, got (2, 0)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), (1, 2, 3)),
            ValueError,
            f"{name}: expected kernel_size to be 2 numbers or one, got (1, 2, 3)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), 2, padding=2),
            ValueError,
            f"{name}: expected 0 <= padding <= kernel_size / 2, got padding (2, 2) for kernel_size "
            "(2, 2)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 2), 3),
            ValueError,
            f"{name}: expected windows of (3, 3) to fit into input (1, 5, 2) with padding (0, 0) "
            "and dilation (1, 1)",
        ),
        Bad(
            lambda: call(np.zeros((1, 5, 5), np.int64), 2),
            TypeError,
            f"{label}: expected a floating-point or uint8 Tensor, got int64",
        ),
    )


def _wrong_adaptive(name: str, label: str, call: Any) -> tuple[Bad, ...]:
    return (
        Bad(
            lambda: call(zeros(1, 5, 5), (2, -1)),
            ValueError,
            f"{label}: expected output_size >= 0, got (2, -1)",
        ),
        Bad(
            lambda: call(zeros(1, 0, 5), 2),
            ValueError,
            f"{label}: expected at least one element in a plane, got input (1, 0, 5)",
        ),
        Bad(
            lambda: call(zeros(1, 5, 5), (1, 2, 3)),
            ValueError,
            f"{name}: expected output_size to be 2 numbers or one, got (1, 2, 3)",
        ),
    )


def _wrong_adaptive_1d(name: str, label: str, call: Any) -> tuple[Bad, ...]:
    return (
        Bad(
            lambda: call(zeros(1, 5), -1),
            ValueError,
            f"{label}: expected output_size >= 0, got -1",
        ),
        Bad(
            lambda: call(zeros(1, 5), (2, 3)),
            ValueError,
            f"{name}: expected output_size to be a number, got (2, 3)",
        ),
    )


_MAX = ("max_pool_fwd", "max_pool_bwd")
_SPANS = ("max_pool_spans_fwd", "max_pool_spans_bwd")
_ADAPTIVE = tuple({"output_size": n} for n in (1, 3, (5, None), (None, 2), 0, 20))
_ADAPTIVE_LINES = tuple({"output_size": n} for n in (1, 3, None, 0, 20))
_FRACTIONAL = tuple(
    {"kernel_size": k, "output_size": (4, 3), "pseudo_random": pseudo}
    for k in (1, 2, (2, 3))
    for pseudo in (True, False)
)

ROWS: tuple[Op, ...] = (
    _row(
        "max_pool1d",
        "MaxPool1d",
        _MAX,
        (*_GRIDS, {"kernel_size": 2, "dilation": 3}),
        _LINES,
        (
            Bad(
                lambda: F.max_pool1d(zeros(5), 2),
                ValueError,
                "max_pool1d: expected input of shape (channels, length) or a batch of it, got (5,)",
            ),
            Bad(
                lambda: F.max_pool1d(zeros(1, 5), 2, padding=2),
                ValueError,
                "max_pool1d: expected 0 <= padding <= kernel_size / 2, got padding 2 for "
                "kernel_size 2",
            ),
            Bad(
                lambda: F.max_pool1d(zeros(1, 5), 2, padding=2**63 - 1),
                ValueError,
                "max_pool1d: expected 0 <= padding <= kernel_size / 2, got padding "
                "9223372036854775807 for kernel_size 2",
            ),
        ),
        ((300, 20, 133),),
        (((64, 64, 1024),),),
        2,
    ),
    _row(
        "max_pool2d",
        "MaxPool2d",
        (*_MAX, *_SPANS),
        (
            *_GRIDS,
            {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1)},
            {"kernel_size": 2, "dilation": (3, 2), "stride": 1},
        ),
        _PLANES,
        _wrong("max_pool2d", "max_pool", F.max_pool2d),
        _ON_MANY,
        _GOAL,
        4,
    ),
    _row(
        "avg_pool1d",
        "AvgPool1d",
        ("avg_pool_fwd", "avg_pool_bwd"),
        (*_GRIDS, {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
        _LINES,
        (
            Bad(
                lambda: F.avg_pool1d(zeros(1, 5), 0),
                ValueError,
                "avg_pool1d: expected kernel_size > 0, got 0",
            ),
        ),
        ((300, 20, 133),),
        (((64, 64, 1024),),),
        2,
    ),
    _row(
        "avg_pool2d",
        "AvgPool2d",
        ("avg_pool_fwd", "avg_pool_bwd"),
        (
            *_GRIDS,
            {"kernel_size": 3, "padding": 1, "count_include_pad": False, "ceil_mode": True},
            {"kernel_size": (2, 3), "stride": (1, 2), "divisor_override": -5},
        ),
        _PLANES,
        (
            *_wrong("avg_pool2d", "avg_pool", F.avg_pool2d),
            Bad(
                lambda: F.avg_pool2d(zeros(1, 5, 5), 2, divisor_override=0),
                ValueError,
                "avg_pool2d: expected divisor_override != 0, got 0",
            ),
        ),
        _ON_MANY,
        _GOAL,
        4,
    ),
    _row(
        "adaptive_avg_pool1d",
        "AdaptiveAvgPool1d",
        ("avg_pool_spans_fwd", "avg_pool_bwd"),
        _ADAPTIVE_LINES,
        _LINES,
        _wrong_adaptive_1d("adaptive_avg_pool1d", "adaptive_avg_pool", F.adaptive_avg_pool1d),
        ((300, 20, 133),),
        (((64, 64, 1024),),),
        1024,
    ),
    _row(
        "adaptive_avg_pool2d",
        "AdaptiveAvgPool2d",
        ("avg_pool_spans_fwd", "avg_pool_bwd"),
        _ADAPTIVE,
        _PLANES,
        _wrong_adaptive("adaptive_avg_pool2d", "adaptive_avg_pool", F.adaptive_avg_pool2d),
        _ON_MANY,
        _GOAL,
        1024,
    ),
    _row(
        "adaptive_max_pool1d",
        "AdaptiveMaxPool1d",
        _SPANS,
        _ADAPTIVE_LINES,
        _LINES,
        _wrong_adaptive_1d("adaptive_max_pool1d", "adaptive_max_pool", F.adaptive_max_pool1d),
        ((300, 20, 133),),
        (((64, 64, 1024),),),
        1024,
    ),
    _row(
        "adaptive_max_pool2d",
        "AdaptiveMaxPool2d",
        _SPANS,
        _ADAPTIVE,
        _PLANES,
        _wrong_adaptive("adaptive_max_pool2d", "adaptive_max_pool", F.adaptive_max_pool2d),
        _ON_MANY,
        _GOAL,
        1024,
    ),
    _row(
        "fractional_max_pool2d",
        "FractionalMaxPool2d",
        ("fractional_spans", *_SPANS),
        _FRACTIONAL,
        (((2, 3, 7, 5),), ((3, 6, 6),), ((0, 3, 6, 6),), ((40, 10, 12, 14),)),
        (
            Bad(
                lambda: F.fractional_max_pool2d(zeros(1, 5, 5), 2, 5),
                ValueError,
                "fractional_max_pool2d: expected 1 <= output_size <= input size - kernel_size + 1, "
                "got output_size (5, 5) and kernel_size (2, 2) for input (1, 5, 5)",
            ),
            Bad(
                lambda: F.fractional_max_pool2d(zeros(1, 5, 5), (2**63 - 1, 2), 2),
                ValueError,
                "fractional_max_pool2d: expected 1 <= output_size <= input size - kernel_size + 1, "
                "got output_size (2, 2) and kernel_size (9223372036854775807, 2) for input "
                "(1, 5, 5)",
            ),
            Bad(
                lambda: F.fractional_max_pool2d(zeros(1, 5, 5), 2),
                ValueError,
                "fractional_max_pool2d: expected one of output_size and output_ratio",
            ),
            Bad(
                lambda: F.fractional_max_pool2d(zeros(1, 5, 5), 2, output_ratio=1.5),
                ValueError,
                "fractional_max_pool2d: expected output_ratio in (0, 1), got 1.5",
            ),
            Bad(
                lambda: F.fractional_max_pool2d(
                    zeros(1, 5, 5), 2, 3, _random_samples=zeros(2, 2, 2)
                ),
                ValueError,
                "fractional_max_pool2d: expected _random_samples of shape (batch, channels, 2) to "
                "fit input (1, 5, 5), got (2, 2, 2)",
            ),
        ),
        _ON_MANY,
        _GOAL,
        4,
    ),
)
