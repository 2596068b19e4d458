"""Convolution and max pooling as one op: the bits of one after the other, on every path."""

import re
from functools import partial

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import needs_cuda
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import conv as reference
from fastnn.testing.reference import pool as pooling

# (images, weights, options)
CASES = {
    "images in the lanes": ((64, 6, 14, 14), (16, 6, 5, 5), {}),
    "some of them": ((17, 2, 9, 12), (4, 2, 3, 3), {"padding": 1}),
    "in groups": ((33, 4, 7, 6), (4, 2, 3, 3), {"padding": 2, "groups": 2}),
    "a window per plane": ((16, 3, 3, 2), (5, 3, 1, 1), {}),
    "LeNet-5's first": ((64, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    "positions in the lanes": ((3, 2, 13, 21), (5, 2, 3, 3), {}),
    "filters in the lanes": ((2, 16, 11, 9), (24, 16, 3, 3), {"padding": "same"}),
    "bands of rows": ((1, 3, 130, 40), (4, 3, 3, 3), {"stride": (1, 2)}),
    "outputs that fill L2": ((1, 2, 150, 150), (20, 2, 3, 3), {}),
    "no batch": ((3, 8, 8), (2, 3, 3, 3), {"dilation": 2}),
    "no images": ((0, 3, 8, 8), (2, 3, 3, 3), {}),
    "nothing but padding": ((2, 1, 4, 0), (1, 1, 1, 1), {"padding": (0, 1)}),
    "nothing but padding on both axes": ((1, 1, 0, 0), (1, 1, 1, 1), {"padding": 1}),
}


def leaves(shapes, device="cpu"):
    r = np.random.default_rng(0)
    arrays = [r.standard_normal(s).astype(np.float32) for s in shapes]
    return [fn.tensor(a, device=device, requires_grad=True) for a in arrays]


def results(op, inputs):
    y = op(*inputs)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    y.backward(fn.tensor(dy, device=y.device))
    return [np.array(v.to("cpu")) for v in (y.detach(), *(x.grad for x in inputs))]


def check(name, device, **activation):
    images, weights, options = CASES[name]
    shapes = images, weights, weights[:1]
    got = results(
        lambda *v: F.conv2d(*v, **options, **activation, max_pool=2), leaves(shapes, device)
    )
    expected = results(
        lambda *v: F.max_pool2d(F.conv2d(*v, **options, **activation), 2), leaves(shapes, device)
    )
    for a, e, what in zip(got, expected, ("y", "dx", "dw", "db"), strict=True):
        assert_bitwise_equal(a, e, f"{name}, {what}")


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "gelu"])
@pytest.mark.parametrize("name", CASES)
def test_has_the_bits_of_one_after_the_other(name, activation):
    check(name, "cpu", activation=activation)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", CASES)
def test_on_cuda_as_well(name):
    check(name, "cuda", activation="relu")


def test_nan_and_equal_elements():
    """As in torch: the first of equal ones, and NaN is larger than all."""
    x = np.zeros((16, 1, 4, 4), np.float32)
    x[3, 0, 1, 2], x[5, 0, 0, 0] = np.nan, 2
    for batch in (x, x[:6]):
        t = fn.tensor(batch, requires_grad=True)
        y = F.conv2d(t, np.ones((1, 1, 1, 1), np.float32), max_pool=2)
        expected = F.max_pool2d(batch, 2)
        np.testing.assert_array_equal(y.detach().numpy(), expected.numpy())
        y.backward(np.ones(y.shape, np.float32))
        first = np.zeros_like(batch)
        first[:, :, ::2, ::2] = 1
        first[3, 0, :2, 2:] = [[0, 0], [1, 0]]
        np.testing.assert_array_equal(t.grad.numpy(), first)


def test_same_bits_on_any_number_of_threads():
    before = fn.get_num_threads()
    found = []
    for threads in (1, 2, 3, 8):
        fn.set_num_threads(threads)
        for shapes in ([(40, 2, 20, 16), (6, 2, 3, 3), (6,)], [(37, 9, 9, 8), (8, 9, 5, 5), (8,)]):
            op = partial(F.conv2d, activation="relu", max_pool=2)
            found.append(results(op, leaves(shapes)))
    fn.set_num_threads(before)
    for i, run in enumerate(found):
        for a, e in zip(run, found[i % 2], strict=True):
            assert_bitwise_equal(a, e)


# Images, weights and options of convolutions whose weights' gradient is summed over windows.
SUMMED = [
    ((64, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    ((33, 6, 14, 14), (16, 6, 5, 5), {}),
    ((7, 10, 13, 20), (18, 5, 3, 3), {"padding": 1, "groups": 2}),
    ((5, 32, 16, 9), (24, 32, 3, 3), {"padding": (0, 1)}),
    ((2, 20, 33, 18), (16, 20, 7, 7), {"padding": 3}),
]


def integers(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def positive(rng, *shape):
    return rng.random(shape).astype(np.float32)


def gradient_of_weights(x, w, dy, options, between=lambda y: y):
    weights = fn.tensor(w, requires_grad=True)
    y = F.max_pool2d(between(F.conv2d(x, weights, **options)), 2)
    y.backward(dy)
    return np.array(weights.grad)


@pytest.mark.parametrize("draw", [integers, normal, positive])
@pytest.mark.parametrize(("images", "weights", "options"), SUMMED)
def test_gradient_of_weights_from_windows(draw, images, weights, options):
    """Exact on integers, within 16 u of the sums' terms on what is not; half of dy is 0."""
    rng = np.random.default_rng(7)
    x, w = draw(rng, *images), draw(rng, *weights)
    z = np.array(F.conv2d(x, w, **options))
    dy = draw(rng, *F.max_pool2d(z, 2).shape) * rng.integers(0, 2, F.max_pool2d(z, 2).shape)
    dy = dy.astype(np.float32)
    got = gradient_of_weights(x, w, dy, options)
    (dz,) = pooling.max_pool2d_vjp(dy.astype(np.float64), z.astype(np.float64), 2)
    wide = x.astype(np.float64), w.astype(np.float64)
    expected = reference.conv_vjp(dz, *wide, **options)[1]
    if draw is integers:
        assert_bitwise_equal(got + np.float32(0), np.float32(expected) + np.float32(0))
    bound = reference.conv_vjp(np.abs(dz), *(np.abs(v) for v in wide), **options)[1]
    assert_within(got, expected, 16 * U * bound)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("images", "weights", "options"), SUMMED)
def test_gradients_of_zero_meet_what_is_not_finite(value, images, weights, options):
    """0 times infinity is NaN, as where each position is multiplied."""
    rng = np.random.default_rng(8)
    x, w = normal(rng, *images), normal(rng, *weights)
    x[1, 0, 4, 5] = value
    dy = normal(rng, *F.max_pool2d(F.conv2d(x, w, **options), 2).shape)
    got = gradient_of_weights(x, w, dy, options)
    expected = gradient_of_weights(x, w, dy, options, lambda y: y * 1.0)
    assert np.isnan(got).any()
    assert np.isfinite(got).any() == (weights[1] * options.get("groups", 1) > 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_gradients_that_are_not_finite():
    """Of one filter: all that its window sees, and the other filters nothing."""
    images, weights, options = SUMMED[1]
    rng = np.random.default_rng(9)
    x, w = integers(rng, *images), integers(rng, *weights)
    dy = integers(rng, *F.max_pool2d(F.conv2d(x, w, **options), 2).shape)
    dy[3, 2, 1, 4] = np.nan
    got = gradient_of_weights(x, w, dy, options)
    assert np.isnan(got[2]).all()
    assert np.isfinite(np.delete(got, 2, 0)).all()


def test_other_windows_are_ops_of_their_own():
    inputs = leaves([(2, 3, 12, 9), (4, 3, 3, 3), (4,)])
    for size in (3, (2, 3)):
        y = F.conv2d(*inputs, activation="relu", max_pool=size)
        expected = F.max_pool2d(F.conv2d(*inputs, activation="relu"), size)
        assert_bitwise_equal(y.detach().numpy(), expected.detach().numpy())


def test_messages():
    x, w = fn.ones(1, 1, 3, 8), fn.ones(1, 1, 3, 3)
    text = (
        "conv2d: expected outputs that max_pool=2 fits into, got (1, 6); use larger images, more "
        "padding, or no pooling"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        F.conv2d(x, w, max_pool=2)
    with pytest.raises(ValueError, match=r"^conv2d: expected max_pool to be 2 numbers or one, got"):
        F.conv2d(x, w, max_pool=(2, 2, 2))


def pooled(calls, *layers):
    """Whether a Sequential of these makes one op of them. It has the bits of single layers."""
    x = np.random.default_rng(2).standard_normal((3, 1, 9, 9)).astype(np.float32)
    before = len(calls)
    y = nn.Sequential(*layers)(x)
    expected = x
    for layer in layers:
        expected = layer(expected)
    assert_bitwise_equal(y.detach().numpy(), expected.detach().numpy())
    return len(calls) > before


def test_sequential_makes_one_op_of_them(calls_of):
    calls = calls_of("conv_fwd_pooled")
    conv = nn.Conv2d(1, 4, 3)
    assert pooled(calls, conv, nn.ReLU(), nn.MaxPool2d(2))
    assert pooled(calls, conv, nn.MaxPool2d((2, 2), (2, 2)), nn.Flatten())
    assert not pooled(calls, conv, nn.GELU(), nn.MaxPool2d(2))
    assert not pooled(calls, conv, nn.ReLU(), nn.MaxPool2d(2, 1))
    assert not pooled(calls, conv, nn.ReLU(), nn.MaxPool2d(2, padding=1))
    assert not pooled(calls, conv, nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
    assert not pooled(calls, conv, nn.ReLU(), nn.MaxPool2d(3))
    pool = nn.MaxPool2d(2)
    pool.register_forward_hook(lambda module, args, output: None)
    assert not pooled(calls, conv, nn.ReLU(), pool)


def test_what_is_written_over_is_not_fused(calls_of):
    """Backward makes the derivative of the windows' elements, which a layer behind changes."""
    calls = calls_of("conv_fwd_pooled")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.ReLU(inplace=True))
    model(fn.ones(2, 1, 8, 8)).sum().backward()
    assert not calls
