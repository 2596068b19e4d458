"""Norms and pooling of channels-last images, by kernels that know this order.

The oracles' part is in test_ops.py; here: more channels than a task has columns, no conversion, and
the bits of planes.
"""

import re

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, _core
from fastnn.testing.compare import assert_bitwise_equal

RNG = np.random.default_rng(0)


def both_orders(f, x, *weights):
    """[y, dx, dw...] of f in the order of the shape, and channels-last."""
    results = []
    for layout in ("contiguous_format", "channels_last"):
        leaf = fn.tensor(x, requires_grad=True)
        params = [fn.tensor(w, requires_grad=True) for w in weights]
        y = f(leaf.contiguous(layout), *params)
        assert y.layout == ("nchw" if layout == "contiguous_format" else "nhwc")
        y.backward(np.cos(np.arange(np.prod(y.shape), dtype=np.float32)).reshape(y.shape))
        results.append([np.array(v) for v in (y.detach(), leaf.grad, *(p.grad for p in params))])
    return results


@pytest.fixture
def no_conversion(monkeypatch):
    """Called when the input is ready: to_layout fails from then on."""

    def refuse(x, layout):
        raise AssertionError(f"to_layout({x.shape}, {layout!r})")

    return lambda: monkeypatch.setattr(_core, "to_layout", refuse)


NORMS = {
    "one group": (lambda x, w, b: F.group_norm(x, 1, w, b), 70),
    "groups": (lambda x, w, b: F.group_norm(x, 7, w, b, activation="gelu"), 70),
    "groups of 100, two to a task": (lambda x, w, b: F.group_norm(x, 6, w, b), 600),
    "a group too wide for a task": (lambda x, w, b: F.group_norm(x, 1, w, b), 300),
    "instances": (lambda x, w, b: F.instance_norm(x, weight=w, bias=b, activation="tanh"), 300),
    "batch": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), 300),
}


@pytest.mark.parametrize("shape", [(2, 0, 3, 3), (0, 4, 3, 3), (2, 4, 0, 3)], ids=str)
def test_norms_of_nothing(shape):
    for norm in (lambda x: F.group_norm(x, 2), F.instance_norm):
        planes, last = both_orders(norm, np.zeros(shape, np.float32))
        assert [v.shape for v in last] == [v.shape for v in planes] == [shape, shape]


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_those_of_the_other_order(name):
    norm, channels = NORMS[name]
    x = 1e3 + RNG.standard_normal((3, channels, 5, 3)).astype(np.float32)
    x += RNG.standard_normal((1, channels, 1, 1)).astype(np.float32)  # means of their own
    w, b = RNG.standard_normal((2, channels)).astype(np.float32)
    for planes, last in zip(*both_orders(norm, x, w, b), strict=True):
        np.testing.assert_allclose(last, planes, rtol=2e-5, atol=2e-5 * np.abs(planes).max())


POOLS = {
    "max 2": lambda x: F.max_pool2d(x, 2),
    "max 3, overlapping": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max, dilated": lambda x: F.max_pool2d(x, (2, 3), 1, dilation=2),
    "max of too many for a byte": lambda x: F.max_pool2d(x, 17, 1, 8),
    "mean 2": lambda x: F.avg_pool2d(x, 2),
    "mean 3, overlapping": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "mean by a divisor": lambda x: F.avg_pool2d(x, (3, 2), 1, divisor_override=5),
}


@pytest.mark.parametrize("channels", [0, 1, 2, 39])  # vectors of 16, 8 and 4, and what is left
@pytest.mark.parametrize("name", POOLS)
def test_pooling_has_the_bits_of_planes(name, channels):
    x = RNG.integers(-3, 3, (2, channels, 9, 10)).astype(np.float32)  # many are equal
    x += 0.1 * (x == 1) * RNG.standard_normal(x.shape).astype(np.float32)
    for planes, last in zip(*both_orders(POOLS[name], x), strict=True):
        assert_bitwise_equal(last, planes)


def test_nan_is_the_largest_channels_last_too():
    x = RNG.standard_normal((1, 20, 4, 4)).astype(np.float32)
    x[0, ::3, 1, 1] = x[0, ::3, 0, 1] = np.nan
    planes, last = both_orders(lambda t: F.max_pool2d(t, 2), x)
    assert np.isnan(planes[0][0, ::3, 0, 0]).all()
    assert_bitwise_equal(last[0], planes[0])
    assert_bitwise_equal(last[1], planes[1])


@pytest.mark.parametrize("f", [
    lambda x: F.group_norm(x, 3), F.instance_norm, lambda x: F.batch_norm(x, training=True),
    lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2),
], ids=["group_norm", "instance_norm", "batch_norm", "max_pool2d", "avg_pool2d"])  # fmt: skip
def test_nothing_is_converted(f, no_conversion):
    x = fn.tensor(RNG.standard_normal((2, 6, 4, 4))).contiguous("channels_last").detach()
    x.requires_grad = True
    no_conversion()
    y = f(x)
    y.backward(y.detach())
    assert x.grad.layout == "nhwc"


def test_what_the_callers_of_kernels_convert():
    x = fn.tensor(np.zeros((1, 300, 2, 2))).contiguous("channels_last")
    for message, call in (
        (
            "group_norm: expected channels-last input on the cpu, of groups of at most 256 "
            "channels",
            lambda: _core.group_norm_fwd(x, 1, None, None, 1e-5, (0, 0.0, None, 0.0)),
        ),
        (
            "max_pool2d: expected input in the order of its shape, got a channels-last one",
            lambda: _core.max_pool(
                x, 2, (2, 2), (2, 2), (0, 0), (1, 1), False, save=False, indices=True
            ),
        ),
        (
            "instance_norm: expected more than 1 element per channel, got input (1, 3, 1, 1)",
            lambda: F.instance_norm(fn.zeros(1, 3, 1, 1).contiguous("channels_last")),
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
