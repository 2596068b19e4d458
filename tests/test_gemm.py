"""GEMM: bit-exact on integers over thousands of shapes, within 16 u (|A| |B|) on anything else."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing.bounds import with_storage
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within, round_to

# Around register tiles (6, 14, 24 rows; 16, 32 columns), strips (192) and the k block (256).
SMALL = [*range(10), 13, 14, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49]
LARGE = [63, 65, 95, 96, 97, 129, 191, 192, 193, 255, 256, 257, 260]


def integers(rng, *shape):
    """Integers of few bits: every partial sum is a float32, whatever the order."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def check_exactly(m, n, k, rng):
    x, w, b, dy = (integers(rng, *s) for s in ((m, k), (n, k), (n,), (m, n)))
    tensors = [fn.tensor(v, requires_grad=True) for v in (x, w, b)]
    y = F.linear(*tensors)
    y.backward(dy)
    results = [y.detach(), *(t.grad for t in tensors)]
    for got, expected in zip(results, (x @ w.T + b, dy @ w, dy.T @ x, dy.sum(axis=0)), strict=True):
        assert_bitwise_equal(
            np.array(got) + np.float32(0), expected + np.float32(0), f"{m} {n} {k}"
        )
    a = fn.tensor(x, requires_grad=True)
    z = fn.tensor(np.ascontiguousarray(w.T), requires_grad=True)
    y = a @ z
    y.backward(dy)
    for got, expected in zip(
        (y.detach(), a.grad, z.grad), (x @ w.T, dy @ w, x.T @ dy), strict=True
    ):
        assert_bitwise_equal(
            np.array(got) + np.float32(0), expected + np.float32(0), f"{m} {n} {k}"
        )


@pytest.mark.parametrize("m", SMALL)
def test_integers_are_exact_in_small_shapes(m):
    rng = np.random.default_rng(m)
    for n in SMALL:
        for k in rng.choice(SMALL, 4, replace=False):
            check_exactly(m, n, int(k), rng)


@pytest.mark.parametrize("m", LARGE)
def test_integers_are_exact_around_the_tiles(m):
    rng = np.random.default_rng(m)
    for n, k in rng.choice(LARGE, (6, 2)):
        check_exactly(m, int(n), int(k), rng)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 5000), (3000, 2, 3), (2, 3000, 7), (1, 700, 513), (39, 11, 700), (17, 16, 1025)],
)
def test_integers_are_exact_in_skinny_shapes(m, n, k):
    check_exactly(m, n, k, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("m", "n", "k"), [(128, 128, 128), (70, 512, 512), (17, 1024, 528), (50, 1024, 1024)]
)
def test_integers_are_exact_where_rows_share_the_sets_of_a_cache(m, n, k):
    check_exactly(m, n, k, np.random.default_rng(0))


def test_random_shapes_are_exact():
    rng = np.random.default_rng(11)
    for m, n, k in np.exp(rng.uniform(0, np.log(150), (300, 3))).astype(int):
        check_exactly(int(m), int(n), int(k), rng)


def check_integers_in_bfloat16(count):
    """Of integers every sum is a float32, and its rounding to bfloat16 is the only one."""
    rng = np.random.default_rng(12)
    for m, n, k in np.exp(rng.uniform(0, np.log(500), (count, 3))).astype(int):
        x, w, b, dy = (integers(rng, *s) for s in ((m, k), (n, k), (n,), (m, n)))
        tensors = [fn.tensor(v, "bfloat16", requires_grad=True) for v in (x, w, b)]
        y = F.linear(*tensors)
        y.backward(fn.tensor(dy, "bfloat16"))
        results = [y.detach(), *(t.grad for t in tensors)]
        exact = x @ w.T + b, dy @ w, dy.T @ x, dy.sum(axis=0)
        for got, expected in zip(results, exact, strict=True):
            rounded = round_to(expected, "bfloat16").astype(np.float32)
            assert_bitwise_equal(np.array(got) + np.float32(0), rounded + 0, f"{m} {n} {k}")


def test_integers_are_exact_in_bfloat16():
    check_integers_in_bfloat16(200)


def test_bfloat16_of_several_blocks_of_k_is_rounded_once():
    rng = np.random.default_rng(13)
    x, w = (round_to(rng.standard_normal(s), "bfloat16") for s in ((9, 5000), (70, 5000)))
    got = np.array(F.linear(fn.tensor(x, "bfloat16"), fn.tensor(w, "bfloat16")))
    x, w = x.astype(np.float64), w.astype(np.float64)
    bound = 16 * U * np.abs(x) @ np.abs(w).T
    assert_within(got, x @ w.T, with_storage(bound, x @ w.T, "bfloat16"))


@pytest.mark.parametrize("k", [40, 41, 512])
def test_bfloat16_has_the_same_bits_from_rows_and_from_columns(k):
    """Rows of whole pairs are read in place, odd ones and columns from copies."""
    rng = np.random.default_rng(14)
    dy, x = (rng.standard_normal((k, n)).astype(np.float32) for n in (71, 130))
    w = fn.tensor(np.zeros((71, 130)), "bfloat16", requires_grad=True)
    F.linear(fn.tensor(x, "bfloat16"), w).backward(fn.tensor(dy, "bfloat16"))
    rows = fn.tensor(np.ascontiguousarray(dy.T), "bfloat16")
    assert_bitwise_equal(np.array(w.grad), np.array(rows @ fn.tensor(x, "bfloat16")))


def normal(rng, *shape):
    return rng.standard_normal(shape)


def positive(rng, *shape):
    return rng.random(shape)


def log_normal(rng, *shape):
    return np.exp(6 * rng.standard_normal(shape)) * rng.choice([-1, 1], shape)


def cancelling(rng, *shape):
    return 1e3 * (1 - 2 * (np.indices(shape).sum(axis=0) % 2)) + rng.standard_normal(shape)


ACCURACY = [(7, 9, 256), (130, 200, 1000), (3, 5, 16_384)]


def accuracy_cases():
    cases = []
    for draw in (normal, positive, log_normal, cancelling):
        for shape in ACCURACY:
            cases.append(pytest.param(draw, *shape, id=f"{draw.__name__}-{shape}"))
    return cases


@pytest.mark.parametrize(("draw", "m", "n", "k"), accuracy_cases())
def test_error_is_within_16_u(draw, m, n, k):
    rng = np.random.default_rng(3)
    x, w = (draw(rng, *s).astype(np.float32) for s in ((m, k), (n, k)))
    dy = rng.standard_normal((m, n)).astype(np.float32)
    tx, tw = (fn.tensor(v, requires_grad=True) for v in (x, w))
    y = F.linear(tx, tw)
    y.backward(dy)
    for got, (a, b) in ((y.detach(), (x, w.T)), (tx.grad, (dy, w)), (tw.grad, (dy.T, x))):
        a, b = a.astype(np.float64), b.astype(np.float64)
        assert_within(np.array(got), a @ b, 16 * U * (np.abs(a) @ np.abs(b)))


@pytest.mark.parametrize(
    ("n", "k"), [(10, 17), (64, 128), (200, 300), (1, 700), (10, 300), (40, 3100)]
)
def test_a_row_does_not_depend_on_its_batch(n, k):
    rng = np.random.default_rng(4)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((257, k), (n, k), (n,)))
    whole = np.array(F.linear(x, w, b, activation="gelu"))
    order = rng.permutation(257)
    assert_bitwise_equal(np.array(F.linear(x[order], w, b, activation="gelu")), whole[order])
    for rows in (1, 2, 5, 23, 24, 25, 96, 200, 256):
        part = np.array(F.linear(x[:rows], w, b, activation="gelu"))
        assert_bitwise_equal(part, whole[:rows], f"{rows} rows")


def test_a_long_batch_is_summed_in_spans_whose_sums_are_added_in_order():
    # gemm_plan.h: at most 4 blocks of 384 each, nearly equal; here 9 blocks and one of 1 row.
    x, dy = normal(np.random.default_rng(6), 3457, 20), normal(np.random.default_rng(7), 3457, 33)
    w = fn.tensor(np.zeros((33, 20)), requires_grad=True)
    F.linear(x, w).backward(dy)
    total = 0
    for first, last in ((0, 1152), (1152, 2304), (2304, 3457)):
        part = fn.tensor(np.zeros((33, 20)), requires_grad=True)
        F.linear(x[first:last], part).backward(dy[first:last])
        total = total + np.array(part.grad)
    assert_bitwise_equal(np.array(w.grad), total)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_stay_in_their_row_and_column(value):
    rng = np.random.default_rng(5)
    for m, n, k in ((5, 7, 33), (120, 130, 200), (20, 3, 1040), (33, 14, 263), (5, 20, 3100)):
        x, w = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (n, k)))
        clean = np.array(F.linear(x, w))
        bad = x.copy()
        bad[2, k - 1] = value
        got = np.array(F.linear(bad, w))
        assert not np.isfinite(got[2]).any()
        keep = np.arange(m) != 2
        assert_bitwise_equal(got[keep], clean[keep])


def test_an_empty_product_is_the_bias():
    y = F.linear(np.zeros((3, 0), np.float32), np.zeros((2, 0), np.float32), [1.0, 2.0])
    assert_bitwise_equal(np.array(y), np.tile(np.float32([1, 2]), (3, 1)))
