"""Activations at zeros, the smallest and largest numbers, infinities and every kind of NaN."""

import math

import fastnn as fn
import numpy as np
import pytest
from adversarial_helpers import FLT_MIN, INF, MAX, NAN, TINY, WAYS, Case, check, parameters
from fastnn import functional as F
from fastnn.testing import harness
from fastnn.testing.compare import round_to, ulp
from fastnn.testing.ops import OPS

ACTIVATIONS = {
    op.short: op
    for op in OPS
    if op.short == "hardtanh" or (op.family == "activation" and not op.arrays)
}
_EDGES = [0.0, TINY, FLT_MIN, 1e-30, 1e-8, 2.0**-12, 90.0, 128.0, 1e4, 1e30, MAX, INF]
EDGES = [*_EDGES, *(-x for x in _EDGES), NAN]


def of(function, *args):
    return lambda x, repeat: function(x, *args)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_31_edges(name, way):
    """Values and slopes where numbers end, infinite x standing for its limit, within the bound."""
    op, (dtype, threads, _, elements) = ACTIVATIONS[name], WAYS[way]
    fn.set_num_threads(threads)
    x = round_to(np.array(EDGES), dtype)
    x = np.concatenate([x] * max(1, elements // x.size))
    for params in op.params:
        s = op.sample_of((x,), params, dtype, np.random.default_rng(0))
        harness.check(op, s)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "bits",
    [0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0x7F800001, 0xFFBFFFFF],
    ids=["quiet", "negative", "all ones", "signalling", "negative signalling"],
)
def test_31_every_nan_at_every_lane(name, bits):
    """Payloads at each of 64 lanes, of x and of dy; the neighbours keep their bits."""
    function = ACTIVATIONS[name].call
    nan = np.array(bits, np.uint32).view(np.float32)
    clean = np.linspace(-3, 3, 65, dtype=np.float32)
    x, ones = np.tile(clean, (64, 1)), np.ones((64, 65), np.float32)
    lanes = np.arange(64)
    x.view(np.uint32)[lanes, lanes] = bits

    def both(values, dy):
        t = fn.tensor(values, requires_grad=True)
        y = function(t)
        y.backward(fn.tensor(dy))
        return np.array(y.detach()), np.array(t.grad)

    dy = ones.copy()
    dy.view(np.uint32)[lanes, lanes] = bits
    y, dx = both(x, ones)
    wanted, slopes = both(np.tile(clean, (64, 1)), ones)
    through_dy = both(np.tile(clean, (64, 1)), dy)[1]
    is_nan = np.zeros((64, 65), bool)
    is_nan[lanes, lanes] = np.isnan(nan)
    for got, expected in ((y, wanted), (dx, slopes), (through_dy, slopes)):
        assert (np.isnan(got) == is_nan).all()
        assert (got.view(np.uint32) == expected.view(np.uint32))[~is_nan].all()


def exact(function, x, y, dx=None, **options):
    return Case(of(function), x, y, dx, signed=True, **options)


def gelu(x):
    return 0.5 * x * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2))


TAIL = np.array([-5.0, -6.0, -8.0, -10.0, -12.0, -13.0])
SMALL = [1e-30, -1e-30, 2.0**-60, -(2.0**-60)]
ONE = ("float32",)
CASES = {
    "31 relu of -0 is +0": exact(F.relu, [-0.0, 0.0], [0.0, 0.0], [0, 0]),
    "31 relu of infinities": exact(F.relu, [INF, -INF, NAN], [INF, 0.0, NAN], [1, 0, NAN]),
    "31 relu of the smallest": exact(F.relu, [TINY, -TINY], [TINY, 0.0], [1, 0], dtypes=ONE),
    "31 relu6 at its corners": exact(F.relu6, [0.0, 6.0, 7.0, INF], [0.0, 6, 6, 6], [0, 0, 0, 0]),
    "31 hardtanh at its corners": exact(
        F.hardtanh, [-1.0, 1.0, -0.0, INF, -INF], [-1, 1, -0.0, 1, -1], [0, 0, 1, 0, 0]
    ),
    "31 leaky_relu at 0 has the slope of the left": Case(
        of(F.leaky_relu, 0.25), [0.0, -8.0, 8.0, -INF], [0, -2, 8, -INF], [0.25, 0.25, 1, 0.25]
    ),
    "31 hardsigmoid of infinities": exact(
        F.hardsigmoid, [INF, -INF, 3.0, -3.0], [1, 0.0, 1, 0.0], [0, 0, 0, 0]
    ),
    "31 hardswish of infinities": Case(
        of(F.hardswish), [INF, -INF, 3.0, -3.0], [INF, 0, 3, 0], [1, 0, 1, 0]
    ),
    "31 hardswish of the largest": Case(of(F.hardswish), [MAX, -MAX], [MAX, 0], [1, 0]),
    "31 sigmoid of infinities": exact(F.sigmoid, [INF, -INF], [1, 0.0], [0, 0]),
    "31 tanh is odd, zeros too": exact(
        F.tanh, [0.0, -0.0, INF, -INF], [0.0, -0.0, 1, -1], [1, 1, 0, 0]
    ),
    "31 silu of infinities": Case(of(F.silu), [INF, -INF, 0.0], [INF, 0, 0], [1, 0, 0.5]),
    "31 gelu of infinities": Case(of(F.gelu), [INF, -INF, 0.0], [INF, 0, 0], [1, 0, 0.5]),
    "31 gelu_tanh of infinities": Case(
        of(F.gelu, "tanh"), [INF, -INF, 0.0], [INF, 0, 0], [1, 0, 0.5]
    ),
    "31 elu of -inf is -alpha": Case(of(F.elu, 2.0), [-INF, INF, -1e30], [-2, INF, -2], [0, 1, 0]),
    "31 selu of -inf": Case(of(F.selu), [-INF, -1e4], [-1.7580993408473766] * 2, [0, 0], ulps=1),
    "31 softplus of infinities": Case(of(F.softplus), [INF, -INF], [INF, 0], [1, 0]),
    "32 softplus of 90 has no threshold": Case(
        of(F.softplus),
        [90.0, -90.0, 1e4, -1e4],
        lambda x: [x[0], math.exp(-90), x[2], 0],
        [1, math.exp(-90), 1, 0],
        ulps=2,
        dx_ulps=2,
        dtypes=ONE,
    ),
    "32 softplus around torch's threshold": Case(
        of(F.softplus),
        [19.0, 20.0, 21.0, -20.0],
        lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
        lambda x: 1 / (1 + np.exp(-x)),
        ulps=2,
        dx_ulps=2,
    ),
    "33 elu of -1e-8 keeps its digits": Case(
        of(F.elu), [-1e-8, -1e-30, -(2.0**-40)], np.expm1, np.exp, ulps=2, dx_ulps=2
    ),
    "33 selu of -1e-8 keeps its digits": Case(
        of(F.selu), [-1e-8, -1e-30], lambda x: 1.7580993408473766 * np.expm1(x), ulps=3
    ),
    "34 gelu in its tail": Case(of(F.gelu), TAIL, gelu, ulps=4),
    "34 gelu past its tail is 0": Case(of(F.gelu), [-15.0, -20.0, -1e4], [0, 0, 0], [0, 0, 0]),
    "34 gelu of small x is x / 2": Case(of(F.gelu), SMALL, lambda x: x / 2, ulps=1),
    "34 silu in its tail": Case(
        of(F.silu), [-20.0, -50.0, -80.0], lambda x: x * np.exp(x) / (1 + np.exp(x)), ulps=4
    ),
    "34 silu past its tail is 0": Case(of(F.silu), [-128.5, -1e4, -MAX], [0, 0, 0], [0, 0, 0]),
    "35 tanh of small x is x": exact(F.tanh, SMALL, lambda x: x, [1, 1, 1, 1]),
    "35 tanh of subnormals is x": exact(
        F.tanh, [TINY, -TINY, 2.0**-140], lambda x: x, [1, 1, 1], dtypes=ONE
    ),
    "35 tanh is 1 from 9.02 on": exact(F.tanh, [9.02, -9.02, 20.0], [1, -1, 1], dtypes=ONE),
    "35 the slope of tanh in its tail": Case(
        of(F.tanh), [9.5, -9.5, 40.0], [1, -1, 1], lambda x: 1 / np.cosh(x) ** 2, ulps=1, dx_ulps=4
    ),
    "36 sigmoid where it is subnormal": Case(
        of(F.sigmoid), [-90.0, -100.0, -103.0], np.exp, np.exp, ulps=2, dx_ulps=4, dtypes=ONE
    ),
    "36 sigmoid past the subnormals is 0": Case(of(F.sigmoid), [-105.0, -1e30], [0, 0], [0, 0]),
    "36 the slope of sigmoid where it is 1": Case(
        of(F.sigmoid),
        [20.0, 60.0, 88.0],
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2,
        ulps=2,
        dx_ulps=4,
    ),
    "32 softplus with a huge beta is relu": Case(
        of(F.softplus, 1e30), [1.0, -1.0], [1, 0], [1, 0], ulps=1
    ),
    "32 softplus with a tiny beta is log 2 / beta": Case(
        of(F.softplus, 2.0**-100),
        [0.0, 1.0],
        [math.log(2) * 2.0**100] * 2,
        [0.5, 0.5],
        ulps=2,
        dx_ulps=2,
    ),
    "34 swish with beta 0 is x / 2": Case(
        of(F.swish, 0.0), [3.0, -MAX, MAX, 0.0], lambda x: x / 2, [0.5] * 4
    ),
    "34 swish with an infinite product": Case(
        of(F.swish, 1e30), [1e30, -1e30], [1e30, 0], [1, 0], ulps=1
    ),
}


@pytest.mark.parametrize(("case", "way"), parameters(CASES))
def test_values_and_slopes(case, way):
    check(case, way)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_31_every_length_up_to_129(name):
    """The same bits as in an array of 129, whatever the length."""
    function = ACTIVATIONS[name].call
    x = np.linspace(-20, 20, 129, dtype=np.float32)
    whole = np.array(function(x))
    for n in range(130):
        got = np.array(function(x[:n].copy()))
        assert got.tobytes() == whole[:n].tobytes()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "elu", "selu", "gelu", "silu"])
def test_bound_monotone_over_neighbours(name):
    """Rounding never turns the order of values that differ by more than its bound."""
    function = ACTIVATIONS[name].call
    for start in (2.0**-20, 0.5, 1.0, 3.0, 8.0):
        x = np.arange(2**12, dtype=np.uint32) + np.float32(start).view(np.uint32)
        y = np.array(function(x.view(np.float32))).astype(np.float64)
        assert (np.diff(y) >= -4 * ulp(y[1:])).all()
