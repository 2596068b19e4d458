"""cat and split (copy_rows), flatten: values, gradients, and what they refuse."""

import re

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_cat_is_numpys_and_split_takes_it_apart(dim, dtype):
    shapes = [[4, 5, 6] for _ in range(3)]
    for size, shape in zip((3, 0, 7), shapes, strict=True):
        shape[dim] = size
    parts = [RNG.integers(-9, 9, shape) for shape in shapes]
    tensors = [fn.tensor(p if dtype == "int64" else p.astype(np.float32), dtype) for p in parts]
    whole = F.cat(tensors, dim)
    np.testing.assert_array_equal(np.array(whole), np.concatenate(parts, dim))
    for part, expected in zip(F.split(whole, (3, 0, 7), dim), parts, strict=True):
        np.testing.assert_array_equal(np.array(part), expected)


def test_gradients_of_cat_are_split_and_those_of_split_are_put_together():
    leaves = [fn.tensor(RNG.standard_normal((2, n, 3)), requires_grad=True) for n in (1, 4)]
    dy = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    F.cat(leaves, 1).backward(dy)
    assert_bitwise_equal(np.array(leaves[0].grad), dy[:, :1])
    assert_bitwise_equal(np.array(leaves[1].grad), dy[:, 1:])
    x = fn.tensor(dy, requires_grad=True)
    first, unused, last = F.split(x, 2, dim=1)
    (first.sum() + (last * 3.0).sum()).backward()
    assert unused.shape == (2, 2, 3)
    expected = np.repeat(np.float32([1, 1, 0, 0, 3]), 3).reshape(1, 5, 3)
    assert_bitwise_equal(np.array(x.grad), np.broadcast_to(expected, (2, 5, 3)))
    one = fn.tensor([1.0, 2.0], requires_grad=True)
    (part,) = F.split(one, 5)
    part.sum().backward()
    assert_bitwise_equal(np.array(one.grad), np.float32([1, 1]))


def test_long_rows_on_any_number_of_threads():
    parts = [RNG.standard_normal((37, n)).astype(np.float32) for n in (30_000, 1, 17)]
    for threads in (1, 3):
        fn.set_num_threads(threads)
        assert_bitwise_equal(np.array(F.cat(parts, 1)), np.concatenate(parts, 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.cat([]), ValueError, "cat: expected at least one array, got none"),
        (lambda: F.cat([[1.0]], 1), ValueError, "cat: expected -1 <= dim < 1, got 1"),
        (
            lambda: F.cat([fn.ones(2, 3), fn.ones(2, 4)]),
            ValueError,
            "cat: expected shapes that differ on axis 0 only, got (2, 3) and (2, 4)",
        ),
        (
            lambda: F.cat([[1.0], [1]]),
            TypeError,
            "cat: expected every array of dtype float32, got int64",
        ),
        (lambda: F.split(fn.ones(3), 0), ValueError, "split: expected a size > 0, got 0"),
        (lambda: F.split(fn.ones(3), 1, 1), ValueError, "split: expected -1 <= dim < 1, got 1"),
        (
            lambda: F.split(fn.ones(3, 2), [1, 1]),
            ValueError,
            "split: expected sizes that add up to 3 on axis 0 of input (3, 2), got 2",
        ),
        (lambda: F.split(fn.ones(3), [4, -1]), ValueError, "split: expected sizes >= 0, got -1"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((), (2, 60)),
        ((0,), (120,)),
        ((1, 2), (2, 12, 5)),
        ((-2, -1), (2, 3, 20)),
        ((2, 2), (2, 3, 4, 5)),
    ],
)
def test_flatten_joins_axes(axes, shape):
    x = fn.tensor(RNG.standard_normal((2, 3, 4, 5)), requires_grad=True)
    y = fn.nn.Flatten(*axes)(x)
    np.testing.assert_array_equal(np.array(y.detach()), np.array(x.detach()).reshape(shape))
    dy = RNG.standard_normal(shape).astype(np.float32)
    y.backward(dy)
    assert_bitwise_equal(np.array(x.grad), dy.reshape(2, 3, 4, 5))


def test_flatten_of_nothing_keeps_the_features():
    assert fn.nn.Flatten()(fn.ones(0, 3, 4)).shape == (0, 12)


@pytest.mark.parametrize("axes", [(1, 4), (-5, 1), (2, 1), (1, -4)])
def test_flatten_refuses_axes_that_are_not_there(axes):
    message = f"Flatten: expected axes {axes[0]} to {axes[1]} of the input, got input (2, 3, 4, 5)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fn.nn.Flatten(*axes)(fn.ones(2, 3, 4, 5))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_stack_puts_arrays_side_by_side(dim):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(5)]
    tensors = [fn.tensor(a, requires_grad=True) for a in arrays]
    y = F.stack(tensors, dim)
    np.testing.assert_array_equal(np.array(y.detach()), np.stack(arrays, dim))
    dy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(dy)
    for i, t in enumerate(tensors):
        np.testing.assert_array_equal(np.array(t.grad), dy.take(i, dim))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 2, 5), (2, 0)])
def test_unbind_shares_memory(shape):
    x = fn.tensor(np.arange(float(np.prod(shape))).reshape(shape), requires_grad=True)
    parts = F.unbind(x)
    assert len(parts) == shape[0]
    for part, expected in zip(parts, np.array(x.detach()), strict=True):
        np.testing.assert_array_equal(np.array(part.detach()), expected)
    (parts[0] * 2.0).sum().backward()
    expected = np.zeros(shape, np.float32)
    expected[0] = 2
    np.testing.assert_array_equal(np.array(x.grad), expected)
    whole = fn.ones(2, 3)
    F.unbind(whole)[1].copy_(fn.zeros(3))
    np.testing.assert_array_equal(np.array(whole), [[1, 1, 1], [0, 0, 0]])


def test_stack_and_unbind_say_what_is_wrong():
    for call, message in (
        (lambda: F.stack([]), "stack: expected at least one array, got none"),
        (
            lambda: F.stack([fn.ones(2), fn.ones(3)]),
            "stack: expected equal shapes, got (2,) and (3,)",
        ),
        (lambda: F.stack([fn.ones(2)], 2), "stack: expected -2 <= dim <= 1, got 2"),
        (
            lambda: F.unbind(fn.ones(0, 2)),
            "unbind: expected at least one item on the first axis, got (0, 2)",
        ),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            call()
        assert str(caught.value) == message
