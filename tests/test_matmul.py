"""Batches of products: each has the bits of the same product alone, and broadcasting is torch's."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn.testing.compare import assert_bitwise_equal

# Around the register tiles, several k blocks, and a product that is packed.
SHAPES = [(1, 1, 1), (5, 7, 13), (33, 10, 64), (25, 65, 400), (200, 208, 450)]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def with_gradients(a, b, dy):
    ta, tb = (fn.tensor(v, requires_grad=True) for v in (a, b))
    y = ta @ tb
    y.backward(dy)
    return [np.array(v) for v in (y.detach(), ta.grad, tb.grad)]


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_a_product_of_a_batch_has_the_bits_that_it_has_alone(m, n, k):
    rng = np.random.default_rng(m)
    a, b, dy = normal(rng, 3, m, k), normal(rng, 3, k, n), normal(rng, 3, m, n)
    batch = with_gradients(a, b, dy)
    for i in range(3):
        for whole, alone in zip(batch, with_gradients(a[i], b[i], dy[i]), strict=True):
            assert_bitwise_equal(whole[i], alone)


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_repeated_operands_change_no_bit(m, n, k):
    rng = np.random.default_rng(n)
    a, b = normal(rng, m, k), normal(rng, k, n)
    more_a, more_b = normal(rng, 2, m, k), normal(rng, 3, 1, k, n)
    for x, z in ((more_a, b), (a, more_b), (more_a, more_b)):
        shape = np.broadcast_shapes(x.shape[:-2], z.shape[:-2])
        y = np.array(fn.matmul(x, z))
        assert y.shape == (*shape, m, n)
        x, z = (np.broadcast_to(v, (*shape, *v.shape[-2:])) for v in (x, z))
        for at in np.ndindex(shape):
            assert_bitwise_equal(y[at], np.array(fn.matmul(x[at].copy(), z[at].copy())))


def test_random_batches_of_integers_are_exact():
    rng = np.random.default_rng(3)
    for _ in range(150):
        m, n, k = (int(v) for v in np.exp(rng.uniform(0, 4, 3)))
        lead = rng.integers(1, 4, rng.integers(1, 4))
        keep = [np.where(rng.random(len(lead)) < 0.3, 1, lead) for _ in range(2)]
        skip = rng.integers(0, len(lead), 2) * (rng.random(2) < 0.3)
        left, right = (tuple(v[s:]) for v, s in zip(keep, skip, strict=True))
        a = rng.integers(-8, 9, (*left, m, k)).astype(np.float32)
        b = rng.integers(-8, 9, (*right, k, n)).astype(np.float32)
        dy = rng.integers(-8, 9, np.matmul(a, b).shape).astype(np.float32)
        y, da, db = with_gradients(a, b, dy)
        assert_bitwise_equal(y + 0, np.matmul(a, b) + 0)
        for got, x, product in (
            (da, a, np.matmul(dy, b.swapaxes(-1, -2))),
            (db, b, np.matmul(a.swapaxes(-1, -2), dy)),
        ):
            extra = product.ndim - x.ndim
            axes = [i for i, size in enumerate(x.shape) if size == 1 and i < x.ndim - 2]
            total = product.sum(axis=tuple(range(extra)))
            assert_bitwise_equal(got + 0, total.sum(axis=tuple(axes), keepdims=True) + 0)


def test_a_batch_is_one_launch():
    plan = _core.Plan()
    a, b = fn.ones(6, 8, 8), fn.ones(6, 8, 8)
    plan.begin()
    fn.bmm(a, b)
    plan.end()
    assert plan.num_launches == 1


@pytest.mark.parametrize("op", [fn.matmul, lambda a, b: a @ b])
def test_arrays_on_either_side(op):
    a, b = np.ones((2, 3), np.float32), fn.tensor(np.ones((3, 2)), requires_grad=True)
    for y in (op(a, b), op(b, a)):
        assert isinstance(y, fn.Tensor)
        y.sum().backward()
    assert_bitwise_equal(np.array(b.grad), np.full((3, 2), 5, np.float32))
