"""Pooling: indices, ties and NaN as in torch, recorded draws, and sequences of regions."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import pool as reference

X = np.random.default_rng(0).standard_normal((2, 3, 9, 40)).astype(np.float32)


def test_indices_are_flat_and_those_of_the_largest():
    y, indices = F.max_pool2d(X, 3, 2, 1, return_indices=True)
    assert indices.dtype == "int64"
    flat = X.reshape(2, 3, -1)
    taken = np.take_along_axis(flat, np.array(indices).reshape(2, 3, -1), axis=2)
    np.testing.assert_array_equal(taken.reshape(y.shape), np.array(y))
    assert_bitwise_equal(np.array(F.max_pool2d(X, 3, 2, 1)), np.array(y))


@pytest.mark.parametrize("indices", [False, True])
@pytest.mark.parametrize("size", [4, 34])
def test_the_first_of_equal_elements_gets_the_gradient(size, indices):
    for stride in (1, 2, 3):
        x = fn.tensor(np.zeros((1, 4, size), np.float32), requires_grad=True)
        y = F.max_pool2d(x, 2, stride, return_indices=indices)
        y = y[0] if indices else y
        y.backward(np.ones(y.shape, np.float32))
        expected = np.zeros((4, size))
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                expected[i * stride, j * stride] += 1
        np.testing.assert_array_equal(np.array(x.grad)[0], expected)


@pytest.mark.parametrize("size", [4, 34])
def test_nan_is_the_largest_and_the_last_one_counts(size):
    x = np.ones((1, 2, size), np.float32)
    x[0, 0, 1] = x[0, 1, 0] = np.nan
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(np.array(y)[0, 0, 0])
    assert np.array(indices)[0, 0, 0] == size
    assert not np.isnan(np.array(y)[0, 0, 1:]).any()
    leaf = fn.tensor(x, requires_grad=True)
    F.max_pool2d(leaf, 2).backward(np.ones((1, 1, size // 2), np.float32))
    assert np.array(leaf.grad)[0, 1, 0] == 1


def test_windows_of_two_side_by_side_of_any_size():
    """Rows that share vectors, fill some, or run over their ends, beside the windows of indices."""
    rng = np.random.default_rng(2)
    for height, width in [(h, w) for h in (2, 5, 10) for w in range(2, 40)]:
        x = rng.integers(-3, 4, (3, height, width)).astype(np.float32)
        x[rng.random(x.shape) < 0.1] = np.nan
        x[rng.random(x.shape) < 0.1] = -np.inf
        results = []
        for indices in (False, True):
            t = fn.tensor(x, requires_grad=True)
            y = F.max_pool2d(t, 2, return_indices=indices)
            y = y[0] if indices else y
            values = y.detach().numpy()
            y.backward(np.arange(values.size, dtype=np.float32).reshape(y.shape))
            results.append((values, t.grad.numpy()))
        for got, expected in zip(*results, strict=True):
            assert_bitwise_equal(got, expected)


def test_windows_of_minus_infinity_have_the_first_index():
    x = np.full((1, 4, 4), -np.inf, np.float32)
    y, indices = F.max_pool2d(x, 2, 2, 1, return_indices=True)
    assert np.isneginf(np.array(y)).all()
    assert np.array(indices).reshape(-1).tolist() == [0, 1, 3, 4, 5, 7, 12, 13, 15]
    leaf = fn.tensor(x, requires_grad=True)
    F.max_pool2d(leaf, 2, 2, 1).backward(np.ones((1, 3, 3), np.float32))
    expected = np.zeros(16)
    np.add.at(expected, [0, 1, 3, 4, 5, 7, 12, 13, 15], 1)
    np.testing.assert_array_equal(np.array(leaf.grad).reshape(-1), expected)


def test_large_windows_and_small_ones_agree():
    """More than 256 elements take the way of indices."""
    x = np.random.default_rng(1).standard_normal((2, 40, 41)).astype(np.float32)
    for kernel in (15, 17):
        leaf = fn.tensor(x, requires_grad=True)
        y = F.max_pool2d(leaf, kernel, 3)
        y.backward(np.ones(y.shape, np.float32))
        oracle = reference.max_pool2d_vjp(np.ones(y.shape), x.astype(float), kernel, stride=3)[0]
        np.testing.assert_array_equal(np.array(leaf.grad), oracle)


def test_global_pooling():
    np.testing.assert_allclose(
        np.array(F.adaptive_avg_pool2d(X, 1))[..., 0, 0], X.mean(axis=(2, 3)), atol=1e-6
    )
    np.testing.assert_array_equal(
        np.array(F.adaptive_max_pool2d(X, 1))[..., 0, 0], X.max(axis=(2, 3))
    )


def test_average_is_exact_at_large_offsets():
    x = np.float32(1e8 + 8 * (np.arange(4096).reshape(1, 64, 64) % 2))
    assert F.adaptive_avg_pool2d(x, 1).item() == np.float32(1e8 + 4)


@pytest.mark.parametrize("pseudo", [True, False])
def test_fractional_regions_cover_the_plane_and_differ_by_channel(pseudo):
    """Every step is the floor or the ceiling of alpha, in numbers that fill the axis."""
    fn.manual_seed(3)
    x = np.arange(30 * 30, dtype=np.float32).reshape(1, 1, 30, 30).repeat(50, axis=1)
    y, indices = F.fractional_max_pool2d(x, 2, 20, return_indices=True, pseudo_random=pseudo)
    assert y.shape == (1, 50, 20, 20)
    cols = np.array(indices)[0, :, 0, :] % 30 - 1  # of a rising plane the last element is largest
    steps = np.diff(cols, axis=1)
    assert set(steps.reshape(-1).tolist()) == {1, 2}
    assert (cols[:, 0] == 0).all()
    assert (cols[:, -1] == 28).all()
    assert len({tuple(c) for c in cols.tolist()}) > (3 if pseudo else 45)


def test_fractional_regions_by_given_samples_are_torchs_formula():
    u = np.random.default_rng(5).random((1, 2, 2)).astype(np.float32)
    x = np.arange(14 * 11, dtype=np.float32).reshape(1, 1, 14, 11).repeat(2, axis=1)
    _, indices = F.fractional_max_pool2d(x, 2, (9, 7), return_indices=True, _random_samples=u)
    for c in range(2):
        rows = reference.pseudo_random(14, 9, 2, float(u[0, c, 1]))
        cols = reference.pseudo_random(11, 7, 2, float(u[0, c, 0]))
        expected = (np.array(rows)[:, None] + 1) * 11 + np.array(cols) + 1
        np.testing.assert_array_equal(np.array(indices)[0, c], expected)


def test_random_orders_are_equally_likely():
    """Three steps that add up to 5, two of them large: 3 orders, within 6 standard errors."""
    fn.manual_seed(0)
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 6).repeat(30_000, axis=0)
    _, indices = F.fractional_max_pool2d(x, 1, (1, 4), return_indices=True, pseudo_random=False)
    orders, counts = np.unique(np.diff(np.array(indices)[:, 0], axis=1), axis=0, return_counts=True)
    assert len(orders) == 3
    assert (np.abs(counts - 10_000) < 6 * np.sqrt(30_000 * 2 / 9)).all()


def test_fractional_ratio():
    layer = nn.FractionalMaxPool2d(2, output_ratio=(0.5, 0.75))
    assert layer(fn.ones(2, 3, 20, 20)).shape == (2, 3, 10, 15)


def test_recorded_steps_draw_new_regions():
    x = X[:, :, :, :9]

    def pool(v):
        return F.fractional_max_pool2d(v, 2, 5)

    results = []
    for step in (pool, fn.capture(pool)):
        fn.manual_seed(1)
        results.append([np.array(step(x)) for _ in range(3)])
    for got, expected in zip(*results, strict=True):
        assert_bitwise_equal(got, expected)
    assert (results[0][1] != results[0][2]).any()


def test_recorded_average_pooling_keeps_its_windows():
    captured = fn.capture(lambda v: F.adaptive_avg_pool2d(F.avg_pool2d(v, 3, 2, 1), (2, 3)))
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((2, 3, 11, 13)).astype(np.float32)
        expected = F.adaptive_avg_pool2d(F.avg_pool2d(x, 3, 2, 1), (2, 3))
        assert_bitwise_equal(np.array(captured(x)), np.array(expected))


def test_layers_are_their_functions():
    x = X[0]
    cases = [
        (nn.MaxPool2d(3, 2, 1), F.max_pool2d(x, 3, 2, 1)),
        (nn.MaxPool2d(2), F.max_pool2d(x, 2)),
        (nn.MaxPool1d(3, ceil_mode=True), F.max_pool1d(x, 3, ceil_mode=True)),
        (nn.AvgPool2d(2, divisor_override=3), F.avg_pool2d(x, 2, divisor_override=3)),
        (nn.AvgPool1d(3, padding=1), F.avg_pool1d(x, 3, padding=1)),
        (nn.AdaptiveAvgPool1d(3), F.adaptive_avg_pool1d(x, 3)),
        (nn.AdaptiveMaxPool1d(3), F.adaptive_max_pool1d(x, 3)),
        (nn.AdaptiveAvgPool2d((2, None)), F.adaptive_avg_pool2d(x, (2, None))),
        (nn.AdaptiveMaxPool2d(2), F.adaptive_max_pool2d(x, 2)),
    ]
    for layer, expected in cases:
        assert_bitwise_equal(np.array(layer(x)), np.array(expected))


@pytest.fixture
def endings(calls_of):
    """The gradients that pooling took through a convolution's activation."""
    return calls_of("conv_bwd_ending")


def conv_and_pool(conv, pool, between, x, w, b):
    leaves = [None if v is None else fn.tensor(v, requires_grad=True) for v in (x, w, b)]
    y = pool(between(conv(*leaves)))
    y.backward(np.random.default_rng(5).integers(-3, 4, y.shape).astype(np.float32))
    return [np.array(v.grad) for v in leaves if v is not None]


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "gelu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "pool",
    [
        lambda y: F.max_pool2d(y, 2),
        lambda y: F.max_pool2d(y, 3, 2, 1),
        lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
        lambda y: F.adaptive_max_pool2d(y, (2, 3)),
    ],
)
def test_a_convolution_gets_the_gradient_of_windows(endings, pool, bias, activation):
    """Which is that of one step after the other."""
    r = np.random.default_rng(3)  # whole numbers: sums are exact in any order
    x, w, b = (r.integers(-3, 4, s).astype(np.float32) for s in ((2, 3, 9, 11), (4, 3, 3, 3), (4,)))
    arrays = (x, w, b if bias else None)

    def conv(x, w, b):
        return F.conv2d(x, w, b, padding=1, activation=activation)

    got = conv_and_pool(conv, pool, lambda y: y, *arrays)
    assert len(endings) == (activation != "gelu")  # whose derivative needs what it is of
    expected = conv_and_pool(conv, pool, lambda y: y * 1.0, *arrays)
    assert len(endings) == (activation != "gelu")
    for a, e in zip(got, expected, strict=True):
        assert_bitwise_equal(a, e)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("shape", "filters", "kernel", "padding", "groups", "summed"),
    [
        ((64, 1, 28, 28), 6, 5, 2, 1, True),  # LeNet-5: lanes are images
        ((64, 6, 14, 14), 16, 5, 0, 1, True),
        ((16, 2, 9, 33), 4, 3, 1, 1, False),  # windows leave out the last row and column
        ((17, 4, 7, 6), 4, 3, 2, 2, False),  # one image in the last lanes
        ((33, 2, 2, 3), 3, 1, 0, 1, False),  # a window per plane: nothing lies before the first
        ((3, 2, 12, 12), 5, 3, 0, 1, True),  # lanes are positions
    ],
)
def test_a_convolution_reads_windows_in_its_lanes(
    calls_of, shape, filters, kernel, padding, groups, summed, whole
):
    """Their gradients are scattered to a band, or before: the bits of one step after the other.

    Those of weights may be summed over windows: in another order, which whole numbers do not show
    (what is not whole: test_conv_pooled.py).
    """
    calls = calls_of("conv_bwd_pooled")
    r = np.random.default_rng(8)
    size = (filters, shape[1] // groups, kernel, kernel)
    arrays = [r.standard_normal(s).astype(np.float32) for s in (shape, size, (filters,))]
    if whole:
        arrays = [np.rint(a) for a in arrays]

    def conv(*v):
        return F.conv2d(*v, padding=padding, groups=groups, activation="relu")

    def pool(y):
        return F.max_pool2d(y, 2)

    got = conv_and_pool(conv, pool, lambda y: y, *arrays)
    assert len(calls) == 1
    expected = conv_and_pool(conv, pool, lambda y: y * 1.0, *arrays)
    assert_bitwise_equal(got[0], expected[0])
    if whole or not summed:
        assert_bitwise_equal(got[1], expected[1])
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-5, atol=1e-5)


def test_transposed_and_of_one_axis_as_well(endings):
    r = np.random.default_rng(4)
    x, w, b = (r.integers(-3, 4, s).astype(np.float32) for s in ((3, 9), (3, 4, 3), (4,)))
    flat = x, w.swapaxes(0, 1).copy(), b
    wide = x[None, :, None].repeat(4, 2), w[:, :, None].repeat(2, 2), b
    relu = {"activation": "relu"}
    cases = [
        (lambda *v: F.conv_transpose2d(*v, stride=2, **relu), lambda y: F.max_pool2d(y, 2), wide),
        (lambda *v: F.conv1d(*v, **relu), lambda y: F.max_pool1d(y, 2), flat),
    ]
    for conv, pool, arrays in cases:
        got = conv_and_pool(conv, pool, lambda y: y, *arrays)
        expected = conv_and_pool(conv, pool, lambda y: y * 1.0, *arrays)
        for a, e in zip(got, expected, strict=True):
            assert_bitwise_equal(a, e)
    assert len(endings) == 2


def test_windows_written_in_place_leave_the_derivative_to_the_convolution(endings):
    r = np.random.default_rng(6)
    x, w, b = (r.standard_normal(s).astype(np.float32) for s in ((2, 1, 8, 8), (4, 1, 3, 3), (4,)))

    def conv(*v):
        return F.conv2d(*v, activation="relu")

    def changed(y):
        return F.relu(F.max_pool2d(y, 2), inplace=True)

    got = conv_and_pool(conv, changed, lambda y: y, *(x, w, b))
    assert not endings
    expected = conv_and_pool(conv, lambda y: F.relu(F.max_pool2d(y, 2)), lambda y: y * 1.0, x, w, b)
    for a, e in zip(got, expected, strict=True):
        assert_bitwise_equal(a, e)
    # Nor is it taken where another reads the convolution's output as well, or windows are of
    # several of its channels.
    conv_and_pool(conv, lambda y: F.max_pool2d(y, 1) + y, lambda y: y, x, w, b)
    flat = x[:, 0], w.reshape(4, 3, 3)[:, :1].repeat(8, 1), b

    def channels(between):
        def line(*v):
            return F.conv1d(*v, activation="relu")

        return conv_and_pool(line, lambda y: F.max_pool2d(y, 2), between, *flat)

    grads = channels(lambda y: y), channels(lambda y: y * 1.0)
    assert not endings
    for a, e in zip(*grads, strict=True):
        assert_bitwise_equal(a, e)
