"""Convolutions of images that are cut into bands and spans: the same bits on any threads.

What is exact, or within bounds, is in test_conv.py; here images are larger, and whatever a task
leaves in its scratch meets the next one on the same thread.
"""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal


def results(threads, op, arrays, options):
    """The output and all gradients."""
    fn.set_num_threads(threads)
    leaves = [fn.tensor(v, requires_grad=True) for v in arrays]
    y = op(*leaves, **options)
    y.backward(np.cos(np.arange(np.prod(y.shape), dtype=np.float32)).reshape(y.shape))
    return [np.array(y.detach()), *(np.array(t.grad) for t in leaves)]


@pytest.mark.parametrize("op", [F.conv2d, F.conv_transpose2d], ids=["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("seed", range(3))
def test_threads_change_nothing(op, seed):
    rng = np.random.default_rng(seed)

    def ones_to(most):
        return int(rng.integers(1, most + 1))

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    for _ in range(40):
        groups, inner = ones_to(3), ones_to(9)
        outer = int(rng.choice([1, 2, 6, 31, 64]))
        kernel, stride = (ones_to(5), ones_to(5)), (ones_to(2), ones_to(2))
        channels, filters = groups * inner, groups * outer
        w = (channels, outer) if op is F.conv_transpose2d else (filters, inner)
        x = normal(ones_to(5), channels, 5 + ones_to(45), 5 + ones_to(45))
        options = {"stride": stride, "padding": (ones_to(3) - 1, ones_to(3) - 1), "groups": groups}
        arrays = (x, normal(*w, *kernel), normal(filters))
        expected = results(1, op, arrays, options)
        for threads in (2, 5):
            got = results(threads, op, arrays, options)
            for i, (a, b) in enumerate(zip(got, expected, strict=True)):
                where = f"result {i} on {threads} threads: x {x.shape}, w {arrays[1].shape}"
                assert_bitwise_equal(a, b, f"{where}, {options}")
