"""The same bits: run to run, on any number of threads, and on x86-64-v3 and -v4."""

import hashlib
import json
import os
import subprocess
import sys

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing import harness
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.hard import hard_cases
from fastnn.testing.ops import OPS, OPTIMIZERS


def large(op):
    """A sample that is worth several threads: more tasks than one, each of some cost."""
    if op.large is not None:
        return op.large
    shapes = {
        "softmax": ((300, 1000),),
        "linear": ((300, 200), (250, 200), (250,)),
    }.get(op.family, ((200_003,),) * (1 + len(op.arrays)))
    if op.short == "matmul":
        shapes = ((300, 200), (200, 250))
    params = dict(op.params[0])
    if op.family == "norm":
        by_rows = "normalized_shape" in params
        no_statistics = (None, None) if "running_mean" in op.arrays else ()
        parameters = ((300,),) * (len(op.arrays) - len(no_statistics))
        shapes = ((700, 300) if by_rows else (20, 300, 35), *no_statistics, *parameters)
        params.update({"normalized_shape": (300,)} if by_rows else {})
    if op.short == "linear":
        params["activation"] = "gelu"
    return shapes, params


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_threads_change_nothing(op):
    shapes, params = large(op)
    for dtype in op.dtypes:
        s = op.sample(shapes, params, dtype)
        results = {}
        for threads in (1, 2, 3, 7):
            fn.set_num_threads(threads)
            y, grads = harness.run(op, s)
            results[threads] = [y, *(g for g in grads if g is not None)]
        for threads in (2, 3, 7):
            for got, expected in zip(results[threads], results[1], strict=True):
                assert_bitwise_equal(got, expected, f"{op.short} on {threads} threads")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_reruns_change_nothing(op):
    fn.set_num_threads(4)
    s = op.sample(*large(op), "float32")
    first = harness.run(op, s)[0]
    for _ in range(10):
        assert_bitwise_equal(harness.run(op, s)[0], first)


def trained(steps=20):
    """Weights after some steps of a network with everything in it."""
    fn.manual_seed(3)
    model = fn.nn.Sequential(
        fn.nn.Linear(50, 300), fn.nn.GELU(), fn.nn.LayerNorm(300), fn.nn.Dropout(0.25),
        fn.nn.Linear(300, 120), fn.nn.Tanh(), fn.nn.Linear(120, 10),
    )  # fmt: skip
    optimizer = fn.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(4)
    for _ in range(steps):
        x, labels = rng.standard_normal((257, 50)).astype(np.float32), rng.integers(0, 10, 257)
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        fn.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [np.array(p.detach()) for p in model.parameters()]


def test_training_on_any_number_of_threads_gives_the_same_weights():
    results = []
    for threads in (1, 2, 5):
        fn.set_num_threads(threads)
        results.append(trained())
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert_bitwise_equal(got, expected)


# ---- instruction sets ---------------------------------------------------------------------------


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def all_digests():
    """Hash of everything the table computes in float32; run in a process per instruction set."""
    hashes = {}
    for op in OPS:
        results = []
        cases = [*op.cases, large(op)]
        if op.tail:
            tails = [op.tail(n) for n in range(1, 40)]
            cases += [(shapes, {**op.params[0], **params}) for shapes, params in tails]
        for shapes, params in cases:
            y, grads = harness.run(op, op.sample(shapes, params, "float32"))
            results += [y, *(g for g in grads if g is not None)]
        hashes[op.short] = digest(results)
        for name, (inputs, params) in hard_cases(op).items():
            s = op.sample_of(inputs, params, "float32", np.random.default_rng(0))
            y, grads = harness.run(op, s)
            hashes[f"{op.short} {name}"] = digest([y, *(g for g in grads if g is not None)])
    for row in OPTIMIZERS:
        for i, options in enumerate(row.options):
            hashes[f"{row.name} {i}"] = digest(optimized(row, options))
    hashes["training"] = digest(trained())
    return hashes


def optimized(row, options):
    rng = np.random.default_rng(1)
    p = fn.tensor(rng.standard_normal(40_003), requires_grad=True)
    optimizer = getattr(fn.optim, row.name)([p], **options)
    for _ in range(20):
        p.grad = fn.tensor(rng.standard_normal(40_003))
        optimizer.step()
    return [np.array(p.detach())]


def all_bounds():
    """Every case of the table within its bounds, on the instruction set of this process."""
    for op in OPS:
        for shapes, params in op.cases:
            for dtype in op.dtypes:
                harness.check(op, op.sample(shapes, params, dtype))
        for inputs, params in hard_cases(op).values():
            s = op.sample_of(inputs, params, "float32", np.random.default_rng(0))
            harness.check(op, s)
    return {"level": fn._core.cpu_level()}


def in_process(level, what):
    """The JSON that a function of this file prints in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-W", "error", __file__, what],
        env={**os.environ, "FASTNN_CPU": level}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def supported(level):
    code = "import fastnn as fn; fn._core.cpu_level()"
    env = {**os.environ, "FASTNN_CPU": level}
    return (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode == 0
    )


needs_v3 = pytest.mark.skipif(not supported("v3"), reason="the processor has no x86-64-v3")
needs_v4 = pytest.mark.skipif(not supported("v4"), reason="the processor has no x86-64-v4")


@needs_v3
@needs_v4
def test_v3_and_v4_give_the_same_bits():
    """And v4 is within bounds by test_ops.py, or v3 where there is no v4."""
    v3, v4 = in_process("v3", "all_digests"), in_process("v4", "all_digests")
    assert [name for name in v3 if v3[name] != v4[name]] == []
    assert v3.keys() == v4.keys()


@pytest.mark.skipif(not supported("v2"), reason="not an x86-64 processor")
def test_v2_is_within_bounds():
    assert in_process("v2", "all_bounds") == {"level": "v2"}


def test_an_unknown_level_is_refused():
    code = "import fastnn as fn; fn.ones(1)"
    env = {**os.environ, "FASTNN_CPU": "v9"}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ValueError: FASTNN_CPU: expected one of ")
    assert result.stderr.endswith(" on this processor, got v9\n")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
