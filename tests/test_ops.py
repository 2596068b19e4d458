"""Templates over the op table: every op against its oracle, every tail, NaN at every lane."""

import re
from dataclasses import replace
from pathlib import Path

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing import harness
from fastnn.testing.compare import assert_bitwise_equal, assert_within, round_to
from fastnn.testing.hard import hard_cases
from fastnn.testing.ops import INTERNALS, NO_ROW, OPS, OPTIMIZERS

ROOT = Path(__file__).parent.parent
LANES = 33


def rows(template, dtypes=True):
    """The table as pytest parameters; a row's xfail reason for this template becomes a mark."""
    cases = []
    for op in OPS:
        marks = [pytest.mark.xfail(reason=op.xfail[template])] if template in op.xfail else []
        for dtype in op.dtypes if dtypes else op.dtypes[:1]:
            name = f"{op.short}-{dtype}" if dtypes else op.short
            values = (op, dtype) if dtypes else (op,)
            cases.append(pytest.param(*values, id=name, marks=marks))
    return cases


def hard():
    cases = []
    for op in OPS:
        for name, (inputs, params) in hard_cases(op).items():
            for dtype in op.dtypes:
                case = f"{op.short}-{dtype}-{name}"
                cases.append(pytest.param(op, inputs, params, dtype, id=case))
    return cases


@pytest.mark.parametrize(("op", "dtype"), rows("oracle"))
def test_forward_and_gradients_are_within_bounds(op, dtype):
    for shapes, params in op.cases:
        harness.check(op, op.sample(shapes, params, dtype))


@pytest.mark.parametrize(("op", "inputs", "params", "dtype"), hard())
def test_hard_inputs_are_within_bounds(op, inputs, params, dtype):
    rounded = tuple(x if x is None or x.dtype.kind in "iu" else round_to(x, dtype) for x in inputs)
    harness.check(op, op.sample_of(rounded, params, dtype, np.random.default_rng(1)))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_bounds_are_not_loose(op):
    """The negative control: one element that is off by 1 in 10,000, or NaN, is caught."""
    samples = [op.sample(shapes, params, "float32") for shapes, params in op.cases]
    # Of a case where nothing is all zeros.
    s = next(s for s in samples if all(v is None or v.any() for v in (s.y, *s.grads)))
    y, grads = harness.run(op, s)
    results = [y, *grads]
    for i, result in enumerate(results):
        if result is None:
            continue
        at = np.unravel_index(np.argmax(np.abs(result)), result.shape)
        for wrong in (result[at] * np.float32(1.0001), np.float32(np.nan)):
            changed = result.copy()
            changed[at] = wrong
            several = [changed if j == i else r for j, r in enumerate(results)]
            with pytest.raises(AssertionError, match=" of "):
                harness.check(op, s, (several[0], tuple(several[1:])))


@pytest.mark.parametrize(("op", "dtype"), rows("tails"))
def test_tails(op, dtype):
    lengths = range(130) if dtype == "float32" else (*range(35), 63, 64, 65, 127, 128, 129)
    for n in lengths if op.tail else []:
        shapes, params = op.tail(n)
        harness.check(op, op.sample(shapes, {**op.params[0], **params}, dtype, seed=n))


@pytest.mark.parametrize("op", rows("oracle vjp", dtypes=False))
def test_vjp_of_the_oracle_is_its_derivative(op):
    """Central differences in float64 along a random direction, for each input."""
    forward = op.reference[0]
    for shapes, params in op.cases:
        s = op.sample(shapes, params, "float32")
        rng = np.random.default_rng(1)
        for i, (x, grad) in enumerate(zip(s.inputs, s.grads, strict=True)):
            if grad is None or x.size > 3000:
                continue
            step = 1e-6 * rng.standard_normal(x.shape)
            moved = [
                (
                    s.dy
                    * forward(
                        *(v if j != i else x + sign * step for j, v in enumerate(s.inputs)),
                        **s.params,
                    )
                ).sum()
                for sign in (1, -1)
            ]
            # Rounding of two sums of |dy y| in float64, and the curvature of the third order.
            terms = np.abs(s.dy * s.y).sum() + np.abs(grad * x).sum()
            limit = 1e-14 * terms + 1e-9 * np.abs(grad * step).sum() + 1e-15
            assert_within((moved[0] - moved[1]) / 2, (grad * step).sum(), limit, f"{params} d{i}")


@pytest.mark.parametrize(("op", "dtype"), rows("rerun"))
def test_rerun_gives_the_same_bits_and_leaves_inputs_alone(op, dtype):
    shapes, params = op.cases[-1]
    inputs = harness.to_tensors(op, op.draw(op.generator(), shapes, dtype), dtype)
    before = [None if x is None else np.array(x.detach()) for x in inputs]
    results = []
    for _ in range(2):
        fn.manual_seed(0)
        for x in inputs:
            if x is not None:
                x.grad = None
        y = op.call(*inputs, **params)
        dy = op.draw_dy(op.generator(), y.shape, dtype)
        y.backward(fn.tensor(dy.astype(np.float32), y.dtype))
        results.append(
            [
                np.array(y.detach()),
                *(np.array(x.grad) for x in inputs if x is not None and x.grad is not None),
            ]
        )
    for first, second in zip(*results, strict=True):
        assert_bitwise_equal(second, first)
    for x, old in zip(inputs, before, strict=True):
        if x is not None:
            assert_bitwise_equal(np.array(x.detach()), old)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize(("op", "dtype"), rows("special values"))
def test_special_values_at_every_lane(op, dtype, value):
    """NaN in, NaN out, wherever it stands; infinities as the oracle says; other rows untouched."""
    for n in range(1, LANES + 1) if op.tail else []:
        shapes, params = op.tail(n)
        rng = np.random.default_rng(n)
        clean = [
            round_to(x, dtype) if x is not None and x.dtype.kind == "f" else x
            for x in op.make(rng, with_rows(shapes, (n + 1,)))
        ]
        x = clean[0].copy()
        x[np.arange(n), np.arange(n)] = value
        params = {**op.params[0], **params}
        s = op.sample_of((x, *clean[1:]), params, dtype, rng)
        fn.manual_seed(0)
        y = op.call(*harness.to_tensors(op, s.inputs, dtype), **params)
        fn.manual_seed(0)
        untouched = op.call(*harness.to_tensors(op, tuple(clean), dtype), **params)
        got, expected = np.array(y.detach()), np.array(untouched.detach())
        # What is not finite is where the oracle has it; everything else keeps its bits.
        assert_within(got, s.y, np.inf)
        if got.ndim > 0:  # a scalar is made of all elements
            same = x == clean[0] if len(shapes[0]) == 1 else np.arange(n + 1) == n
            assert_bitwise_equal(got[same], expected[same])


@pytest.mark.parametrize(("op", "dtype"), rows("channels-last"))
def test_channels_last_inputs(op, dtype):
    """The oracle's values whatever the order in memory; noise counts elements in that order."""
    cases = [(s, p) for s, p in op.cases if len(s[0] or ()) == 4 and "dropout_p" not in p]
    assert cases or op.layout == "nchw"
    for shapes, params in cases:
        s = op.sample(shapes, params, dtype)
        if op.layout != "memory":
            harness.check(op, s, harness.run(op, s, channels_last=True))
        else:
            moved = tuple(np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in s.inputs)
            dy = s.dy.transpose(0, 2, 3, 1)
            in_memory = harness.run(op, replace(s, inputs=moved, dy=dy))
            y, grads = harness.run(op, s, channels_last=True)
            for got, expected in zip((y, *grads), (in_memory[0], *in_memory[1]), strict=True):
                assert_bitwise_equal(got.transpose(0, 2, 3, 1), expected)
        y = op.call(*harness.to_tensors(op, s.inputs, dtype, channels_last=True), **params)
        assert y.layout == ("nchw" if op.layout == "nchw" else "nhwc")


ROW_WISE = [
    op
    for op in OPS
    if op.tail and op.family in ("softmax", "norm", "loss") and len(op.tail(1)[0][0]) > 1
]


@pytest.mark.parametrize("op", ROW_WISE, ids=lambda op: op.short)
@pytest.mark.parametrize("n", [1, 5, 10, 16, 17, 100, 1000])
def test_a_row_does_not_depend_on_its_batch(op, n):
    shapes, params = op.tail(n)
    shapes = with_rows(shapes, (41,))
    params = {**op.params[0], **params}
    for dtype in op.dtypes:
        drawn = op.draw(op.generator(), shapes, dtype)
        inputs = [None if t is None else t.detach() for t in harness.to_tensors(op, drawn, dtype)]

        def rows(select, inputs=inputs):
            def part(t):
                return fn.tensor(np.array(t)[select], t.dtype) if t.shape[0] == 41 else t

            some = (None if t is None else part(t) for t in inputs)
            return np.array(op.call(*some, **params))

        whole = rows(slice(None))
        order = np.random.default_rng(n).permutation(41)
        assert_bitwise_equal(rows(order), whole[order])
        for start, stop in ((0, 1), (40, 41), (3, 18), (7, 24)):
            assert_bitwise_equal(rows(slice(start, stop)), whole[start:stop])


def with_rows(shapes, rows):
    """The shapes of a tail with other rows: those like the input, and one number per row."""
    row = shapes[0][:-1]
    last = {shapes[0]: (*rows, shapes[0][-1]), **({row: rows} if row else {})}
    return tuple(last.get(s, s) for s in shapes)


BAD = [pytest.param(b, id=f"{op.short}-{i}") for op in OPS for i, b in enumerate(op.bad)]


@pytest.mark.parametrize("bad", BAD)
def test_wrong_calls_say_what_is_wrong(bad):
    with pytest.raises(bad.error) as caught:
        bad.call()
    assert str(caught.value) == bad.message


# ---- completeness ------------------------------------------------------------------------------


def kernel_entries():
    for header in sorted((ROOT / "csrc/kernels/families").glob("*.h")):
        body = re.search(r"struct \w+Kernels \{(.*?)\n\};", header.read_text(), re.S).group(1)
        body = re.sub(r"//.*", "", body)
        for names in re.findall(r"Kernel<\w+>\s+([^;]+);", body):
            yield from (name.split("[")[0].strip() for name in names.split(","))


def covered():
    tables = (*OPS, *OPTIMIZERS)
    return {entry for row in tables for entry in row.covers} | set(INTERNALS)


def test_every_kernel_has_a_row():
    known = {entry.split("[")[0] for entry in covered()}
    assert sorted(set(kernel_entries()) - known) == []


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_what_is_timed_has_a_shape_for_every_array(op):
    assert {len(shapes) for shapes in op.bench.shapes} <= {1 + len(op.arrays)}


def test_every_activation_functor_has_a_row():
    names = {f"activation_{d}[{k}]" for k in fn._core.ACTIVATIONS for d in ("fwd", "bwd")}
    assert sorted(names - covered()) == []


def test_every_row_covers_something_that_exists():
    kernels = set(kernel_entries())
    for entry in covered():
        if entry.startswith("nn."):
            assert hasattr(fn.nn, entry[3:]), entry
        else:
            assert entry.split("[")[0] in kernels, entry


def test_every_function_has_a_row():
    names = {op.name for op in OPS} | {f"fastnn.functional.{name}" for name in NO_ROW}
    missing = [n for n in fn.functional.__all__ if f"fastnn.functional.{n}" not in names]
    assert missing == []


def test_every_optimizer_has_a_row():
    names = {row.name for row in OPTIMIZERS}
    classes = [getattr(fn.optim, n) for n in fn.optim.__all__ if n[0].isupper()]
    optimizers = {c.__name__ for c in classes if issubclass(c, fn.optim.Optimizer)} - {"Optimizer"}
    assert sorted(optimizers - names) == []


def test_every_update_rule_has_a_row():
    names = {f"optim_update[{rule}]" for rule in fn._core.OPTIM_RULES}
    assert sorted(names ^ {e for e in covered() if e.startswith("optim_update")}) == []


def test_every_layer_has_a_row():
    without_kernels = {"Module", "Sequential", "Flatten", "Ensemble"}  # they call others
    without_kernels |= {"BasicBlock", "Bottleneck", "DenseBlock", "Residual", "Transition"}
    layers = {n for n in fn.nn.__all__ if n[0].isupper()} - without_kernels
    assert sorted(f"nn.{n}" for n in layers if f"nn.{n}" not in covered()) == []


def test_internal_kernels_name_a_test_that_exists():
    for kernel, name in (*INTERNALS.items(), *NO_ROW.items()):
        text = (Path(__file__).parent / name).read_text()
        assert kernel in text, f"{name} does not mention {kernel}"
