"""Embeddings in recorded steps and on threads; one_hot, argmax and accuracy (topk_correct)."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import embedding as reference

RNG = np.random.default_rng(0)


def test_a_row_that_is_used_often_loses_nothing():
    """100,000 gradients of 0.1 for one row: float32 alone would be off by 1e-3."""
    w = fn.tensor(np.zeros((3, 20), np.float32), requires_grad=True)
    index = np.ones(100_000, np.int64)
    F.embedding(index, w).backward(np.full((100_000, 20), 0.1, np.float32))
    expected = np.float32(100_000 * float(np.float32(0.1)))
    np.testing.assert_array_equal(np.array(w.grad)[1], np.full(20, expected))
    assert not np.array(w.grad)[[0, 2]].any()


def test_padding_is_zero_and_stays_so():
    layer = nn.Embedding(5, 3, padding_idx=-2)
    assert layer.padding_idx == 3
    assert not np.array(layer.weight.detach())[3].any()
    layer([[3, 1], [3, 3]]).sum().backward()
    assert not np.array(layer.weight.grad)[3].any()
    assert (np.array(layer.weight.grad)[1] == 1).all()


@pytest.mark.parametrize("padding_idx", [None, 0, 6, -7])
def test_gradients_are_the_oracles_with_padding_too(padding_idx):
    index = RNG.integers(0, 7, (20, 9))
    w, dy = RNG.standard_normal((7, 33)), RNG.standard_normal((20, 9, 33)).astype(np.float32)
    leaf = fn.tensor(w, requires_grad=True)
    F.embedding(index, leaf, padding_idx).backward(dy)
    expected = reference.embedding_vjp(dy.astype(float), index, w, padding_idx)[1]
    np.testing.assert_allclose(np.array(leaf.grad), expected, rtol=1e-7, atol=1e-7)


def test_an_index_out_of_range_inside_a_step_changes_nothing():
    layer = nn.Embedding(4, 3)
    optimizer = fn.optim.SGD(layer.parameters(), lr=0.1)

    def body(index):
        optimizer.zero_grad()
        loss = layer(index).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = fn.capture(body)
    step(np.array([0, 1, 2]))
    before = np.array(layer.weight.detach())
    with pytest.raises(ValueError, match="embedding") as caught:
        step(np.array([0, 7, 2]))
    assert str(caught.value).endswith("expected 0 <= input < 4, got 7 at input[1]")
    assert_bitwise_equal(np.array(layer.weight.detach()), before)
    step(np.array([3, 3, 3]))
    assert (np.array(layer.weight.detach())[3] != before[3]).all()


def test_embedding_starts_standard_normal():
    fn.manual_seed(0)
    w = np.array(nn.Embedding(1000, 100).weight.detach())
    assert abs(w.mean()) < 0.02
    assert abs(w.std() - 1) < 0.02
    assert list(nn.Embedding(3, 2).state_dict()) == ["weight"]


def test_one_hot():
    index = RNG.integers(0, 7, (5, 6))
    codes = F.one_hot(index, 9)
    assert codes.dtype == "int64"
    np.testing.assert_array_equal(np.array(codes), np.eye(9, dtype=np.int64)[index])
    assert F.one_hot(index).shape == (5, 6, int(index.max()) + 1)
    assert F.one_hot(np.zeros(0, np.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("cols", [1, 2, 15, 16, 17, 100])
def test_argmax_is_numpys(cols):
    x = RNG.integers(0, 4, (50, cols)).astype(np.float32)  # many ties
    x[3, cols // 2] = np.nan
    x[4] = -np.inf
    np.testing.assert_array_equal(np.array(F.argmax(x)), np.argmax(x, axis=1))
    low = fn.tensor(x, "bfloat16")
    np.testing.assert_array_equal(np.array(F.argmax(low)), np.argmax(x, axis=1))


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_accuracy_is_that_of_a_stable_sort(k):
    logits = RNG.integers(0, 4, (300, 10)).astype(np.float32)
    logits[5, 3] = np.nan
    labels = RNG.integers(0, 10, 300)
    order = np.argsort(-np.where(np.isnan(logits), np.inf, logits), axis=1, kind="stable")
    expected = (order[:, :k] == labels[:, None]).any(axis=1).mean()
    assert abs(F.accuracy(logits, labels, k).item() - expected) <= 2**-23
    if k == 1:
        assert expected == (np.array(F.argmax(logits)) == labels).mean()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.one_hot([0, 3], 3),
            ValueError,
            "one_hot: expected 0 <= input < 3, got 3 at input[1]",
        ),
        (
            lambda: F.one_hot(np.zeros(0, np.int64)),
            ValueError,
            "one_hot: expected num_classes for input without elements, got input (0,)",
        ),
        (lambda: F.one_hot([0.0], 3), TypeError, "one_hot: expected input of int64, got float32"),
        (lambda: F.one_hot([0], 0), ValueError, "one_hot: expected num_classes > 0, got 0"),
        (
            lambda: F.argmax(np.zeros((2, 0), np.float32)),
            ValueError,
            "argmax: expected at least one element on the last axis, got input (2, 0)",
        ),
        (
            lambda: F.argmax(np.zeros((2, 3), np.float32), 0),
            ValueError,
            "argmax: expected dim to be the last axis, -1 or 1, got 0 for input (2, 3)",
        ),
        (
            lambda: F.accuracy(np.zeros((2, 3), np.float32), [0, 3]),
            ValueError,
            "accuracy: expected 0 <= labels < 3, got 3 at labels[1]",
        ),
        (
            lambda: F.accuracy(np.zeros((2, 3), np.float32), [0]),
            ValueError,
            "accuracy: expected labels of shape (2,), one for each row of logits (2, 3), got (1,)",
        ),
        (
            lambda: F.accuracy(np.zeros((2, 3), np.float32), [0, 1], 0),
            ValueError,
            "accuracy: expected k >= 1, got 0",
        ),
        (
            lambda: F.accuracy(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)),
            ValueError,
            "accuracy: expected at least one row, got none",
        ),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
