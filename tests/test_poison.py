"""Poisoned memory: every element of an output is written, none behind its end, and scratch memory
is not read before it is written."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn.testing import harness
from fastnn.testing.compare import assert_bitwise_equal, free_blocks_poisoned, guard_bytes
from fastnn.testing.ops import OPS, OPTIMIZERS

CASES = [pytest.param(op, d, id=f"{op.short}-{d}") for op in OPS for d in op.dtypes]


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_results_do_not_depend_on_what_was_in_memory(op, dtype):
    for shapes, params in op.cases:
        inputs = op.draw(op.generator(), shapes, dtype)

        def results(inputs=inputs, params=params):
            return harness.results(op, op.generator(1), inputs, params, dtype)

        expected = results()
        with free_blocks_poisoned(results):
            got = results()
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_bitwise_equal(a, b, f"{op.short} {shapes} {params}: result {i}")


def check_guard(t, where):
    guard = guard_bytes(t)
    assert guard == b"\xff" * len(guard), f"{where}: behind {t.shape}"


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_nothing_is_written_behind_an_output(op, dtype):
    """Forward and backward on their own: within one, no block is used twice by different sizes."""
    for n in (*range(1, 34), 47, 63, 64, 65) if op.tail else []:
        shapes, params = op.tail(n)
        params = {**op.params[0], **params}
        drawn = op.draw(op.generator(), shapes, dtype)
        inputs = harness.to_tensors(op, drawn, dtype)

        def warm_up(drawn=drawn, params=params):
            harness.results(op, op.generator(), drawn, params, dtype)

        with free_blocks_poisoned(warm_up, largest=8192):
            y = op.call(*inputs, **params)
        check_guard(y, f"output {shapes}")
        dy = fn.tensor(op.draw_dy(op.generator(), y.shape, dtype).astype(np.float32), y.dtype)
        with free_blocks_poisoned(warm_up, largest=8192):
            y.backward(dy)
        for x in inputs:
            if x is not None and x.grad is not None:
                check_guard(x.grad, f"gradient {shapes}")


def train(row, options, seed=0):
    rng = np.random.default_rng(seed)
    params = [fn.tensor(rng.standard_normal(n), requires_grad=True) for n in (3, 17, 20_000)]
    optimizer = getattr(fn.optim, row.name)(params, **options)
    for _ in range(3):
        for p in params:
            p.grad = fn.tensor(rng.standard_normal(p.shape))
        fn.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
    return [np.array(p.detach()) for p in params]


@pytest.mark.parametrize(("row", "options"), [
    pytest.param(r, o, id=f"{r.name}-{i}") for r in OPTIMIZERS for i, o in enumerate(r.options)
])  # fmt: skip
def test_optimizers_do_not_depend_on_what_was_in_memory(row, options):
    expected = train(row, options)
    with free_blocks_poisoned(lambda: train(row, options)):
        got = train(row, options)
    for a, b in zip(got, expected, strict=True):
        assert_bitwise_equal(a, b)


def test_clipping_nothing_does_not_read_memory():
    with free_blocks_poisoned(lambda: fn.zeros(1)):
        assert fn.nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_the_poison_works():
    """Fresh memory is NaN: without this the tests above would prove nothing."""
    with free_blocks_poisoned(lambda: fn.zeros(100)):
        fresh = np.asarray(_core.make_optim_records([(0, 1.0)]))  # 32 of its 64 bytes are written
        guard = guard_bytes(fn.zeros(3))
    assert fresh.size == 32
    assert guard == b"\xff" * 52
