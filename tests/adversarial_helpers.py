"""How the cases of tests/test_adversarial_*.py run: in every dtype, on several threads, in arrays
of every layout. test_determinism.py runs the same files on every instruction set.

An id begins with the number of its item in docs/adversarial.md, or with "bound": exact values that
the numerical contract asks for. What general tests cover is in ELSEWHERE of test_adversarial.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing.bounds import with_storage
from fastnn.testing.compare import assert_within, round_to, ulp

FLT_MAX = float(np.finfo(np.float32).max)
MAX = 2.0**128 - 2.0**120  # the largest number of float32 and bfloat16 alike
FLT_MIN = 2.0**-126
TINY = 2.0**-149
NAN, INF = np.nan, np.inf


def unaligned(x):
    """The same array one byte behind an aligned address."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def reversed_view(x):
    """An array of negative strides."""
    every = (slice(None, None, -1),) * x.ndim
    return x[every].copy()[every]


def record_field(x):
    """An array whose elements are 5 or 9 bytes apart."""
    records = np.zeros(x.shape, [("flag", "u1"), ("value", x.dtype)])
    records["value"] = x
    return records["value"]


def read_only(x):
    """An array that may not be written, of which every second element is taken."""
    wide = np.repeat(x, 2, axis=-1) if x.ndim else x.copy()
    wide.flags.writeable = False
    return wide[..., ::2] if x.ndim else wide


LAYOUTS = {
    "unaligned": unaligned,
    "negative strides": reversed_view,
    "record field": record_field,
    "read-only": read_only,
}


class Way(NamedTuple):
    """Storage dtype, threads, layout of the input, and how many elements the rows are repeated to:
    more than one task where there is more than one thread."""

    dtype: str
    threads: int
    layout: str | None
    elements: int


WAYS = {
    "float32, 1 thread, contiguous": Way("float32", 1, None, 0),
    "float32, 3 threads, unaligned": Way("float32", 3, "unaligned", 40_000),
    "float32, 2 threads, read-only": Way("float32", 2, "read-only", 17_000),
    "bfloat16, 3 threads": Way("bfloat16", 3, None, 40_000),
}


@dataclass(frozen=True)
class Case:
    """One input, and what has to come out.

    Attributes:
        call: Of x, and of a function that repeats a target as x is repeated.
        x: The input; its first axis may be repeated.
        y: What to expect: float64 values, or a function of x as it was rounded.
        dx: The gradient of the sum of y, likewise; None: not looked at.
        ulps: How far y may be, in ULP of float32; 0: not at all.
        dx_ulps: The same for dx.
        bound: In the place of ulps: the largest absolute error of all, a function of x and y.
        dx_bound: The same for dx.
        signed: Whether the signs of zeros count.
        whole: Whether y is made of all of x: then rows are not repeated.
        dtypes: Storage dtypes for which the case makes sense.
    """

    call: Callable[..., Any]
    x: Any
    y: Any
    dx: Any = None
    ulps: float = 0
    dx_ulps: float = 0
    bound: Callable[..., Any] | None = None
    dx_bound: Callable[..., Any] | None = None
    signed: bool = False
    whole: bool = False
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


def parameters(cases):
    """Every case in every way that it makes sense in."""
    return [
        pytest.param(case, way, id=f"{name}-{label}")
        for name, case in cases.items()
        for label, way in WAYS.items()
        if way.dtype in case.dtypes and not (case.whole and way.elements == 17_000)
    ]


def check(case, way):
    """Run a case and compare y and dx with what is expected."""
    fn.set_num_threads(way.threads)
    x = round_to(np.asarray(case.x, np.float64), way.dtype)
    count = 1 if case.whole or x.size == 0 else max(1, way.elements // x.size)

    def repeat(v):
        v = np.asarray(v)
        return np.tile(v, (count, *(1,) * (v.ndim - 1))) if v.ndim else v

    single = repeat(x.astype(np.float32))
    if way.layout is not None:
        single = LAYOUTS[way.layout](single)
    # Shared where it may be: kernels then read memory as the caller has it.
    t = single if way.layout else fn.tensor(single, way.dtype)
    result = case.call(t, repeat)
    y = np.array(result.detach())
    want = np.asarray(case.y(x) if callable(case.y) else case.y, np.float64)
    stored = str(result.dtype)
    bound = case.bound and case.bound(x, want)
    _compare(y, repeat(want) if y.ndim else want, stored, case.ulps, bound, "y", case.signed)
    if case.dx is None:
        return
    leaf = fn.tensor(single, way.dtype, requires_grad=True)
    case.call(leaf, repeat).sum().backward()
    want = np.asarray(case.dx(x) if callable(case.dx) else case.dx, np.float64)
    bound = case.dx_bound and case.dx_bound(x, want)
    _compare(np.array(leaf.grad), repeat(want), way.dtype, case.dx_ulps, bound, "dx", case.signed)


def _compare(got, want, dtype, ulps, bound, what, signed):
    if ulps == 0 and bound is None:
        expected = round_to(want, dtype)
        assert_within(got, expected, 0, what)
        if signed:
            number = ~np.isnan(expected)
            assert (np.signbit(got) == np.signbit(expected))[number].all(), what
        return
    limit = ulps * ulp(want) if bound is None else np.broadcast_to(np.max(bound), want.shape)
    size = np.nan_to_num(want, posinf=0, neginf=0)
    assert_within(got, want, with_storage(limit, size, dtype), what)


class Wrong(NamedTuple):
    """A call that is refused, with its exact message."""

    call: Callable[[], Any]
    error: type[Exception]
    message: str


def check_wrong(wrong):
    """The exception, to the letter."""
    with pytest.raises(wrong.error) as caught:
        wrong.call()
    assert str(caught.value) == wrong.message
