"""The small kernels that keep a step's data and figures in memory: gather, advance, accumulate,
count_correct."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3, 5), (50, 2000)])
def test_gather_takes_rows_from_a_cursor(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, shape).astype(dtype)
    index = rng.permutation(50)
    cursor = fn.tensor([7])
    for start in (7, 7 + 20):
        rows = _core.gather(x, index, cursor, 20)
        np.testing.assert_array_equal(np.array(rows), x[index[start : start + 20]])
        _core.advance(cursor, 20)
    assert cursor.item() == 47


def test_gather_of_no_rows():
    x = np.ones((3, 4), np.float32)
    assert np.array(_core.gather(x, np.arange(3), fn.tensor([0]), 0)).shape == (0, 4)


@pytest.mark.parametrize("n", [0, 1, 7, 1000])
def test_count_correct_is_argmax_and_adds_up(n):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (n, 5)).astype(np.float32)  # many ties: the first of the largest counts
    labels = rng.integers(0, 5, n)
    correct = fn.tensor([100])
    expected = int((x.argmax(axis=1) == labels).sum())
    _core.count_correct(x, labels, correct)
    _core.count_correct(x, labels, correct)
    assert correct.item() == 100 + 2 * expected


def test_count_correct_checks_shapes():
    with pytest.raises(ValueError, match="expected") as caught:
        _core.count_correct(np.zeros((2, 3), np.float32), np.zeros(3, np.int64), fn.tensor([0]))
    assert str(caught.value) == "count_correct: expected labels of shape (2,), got (3,)"


def test_accumulate_adds_in_float64():
    total = fn.tensor([0])
    for value in (1.0, 2.0**-30, 3.0):
        _core.accumulate(np.float32([value]).reshape(()), total, 0.5)
    assert _core.read_float64(total) == 0.5 * (1.0 + 2.0**-30 + 3.0)
