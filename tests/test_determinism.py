"""The same bits: run to run, on any number of threads, and on x86-64-v3 and -v4."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing import harness
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.hard import hard_cases
from fastnn.testing.ops import OPS, OPTIMIZERS
from test_gemm import check_integers_in_bfloat16
from test_matmul_precision import check_integers


def large(op):
    """A sample that is worth several threads: more tasks than one, each of some cost."""
    if op.large is not None:
        return op.large
    shapes = {
        "softmax": ((300, 1000),),
        "linear": ((300, 200), (250, 200), (250,), (300, 250)),
    }.get(op.family, ((200_003,),) * (1 + len(op.arrays)))
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
        inputs = op.draw(op.generator(), shapes, dtype)
        results = {}
        for threads in (1, 2, 3, 7):
            fn.set_num_threads(threads)
            results[threads] = harness.results(op, op.generator(1), inputs, params, dtype)
        for threads in (2, 3, 7):
            for got, expected in zip(results[threads], results[1], strict=True):
                assert_bitwise_equal(got, expected, f"{op.short} on {threads} threads")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.short)
def test_reruns_change_nothing(op):
    fn.set_num_threads(4)
    shapes, params = large(op)
    inputs = op.draw(op.generator(), shapes, "float32")
    first = harness.results(op, op.generator(1), inputs, params, "float32")
    for _ in range(10):
        again = harness.results(op, op.generator(1), inputs, params, "float32")
        for got, expected in zip(again, first, strict=True):
            assert_bitwise_equal(got, expected)


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
        cases = [*op.cases, large(op)]
        if op.tail:
            tails = [op.tail(n) for n in range(1, 40)]
            cases += [(shapes, {**op.params[0], **params}) for shapes, params in tails]
        results = []
        for shapes, params in cases:
            rng = op.generator()
            inputs = op.draw(rng, shapes, "float32")
            results += harness.results(op, rng, inputs, params, "float32")
        hashes[op.short] = digest(results)
        for name, (inputs, params) in hard_cases(op).items():
            results = harness.results(op, op.generator(), inputs, params, "float32")
            hashes[f"{op.short} {name}"] = digest(results)
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


def bounds_of_bf16_products():
    """Products of bfloat16 within their bounds, and on integers exact, on this instruction set."""
    for op in OPS:
        if op.family == "linear" and "bfloat16" in op.dtypes:
            for shapes, params in [*op.cases, large(op)]:
                harness.check(op, op.sample(shapes, params, "bfloat16"))
    check_integers_in_bfloat16(60)
    check_integers(20)
    return {"level": fn._core.cpu_level()}


def adversarial():
    """The adversarial cases that fail on the instruction set of this process.

    Layouts and single threads are left to the process of the other tests: they are not its matter.
    """

    class Failures:
        names: ClassVar = []

        def pytest_runtest_logreport(self, report):
            if report.failed:
                self.names.append(report.nodeid)

    failures = Failures()
    others = "not read-only and not contiguous"
    files = map(str, sorted(Path(__file__).parent.glob("test_adversarial*.py")))
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(
            ["-q", "-p", "no:cacheprovider", "-k", others, *files], plugins=[failures]
        )
    return failures.names if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else code


def forced_to(level):
    return {**os.environ, "FASTNN_CPU": level}


# A level that no processor has is refused with the names of those that this one supports.
REFUSED = subprocess.run(
    [sys.executable, "-c", "import fastnn as fn; fn.ones(1)"],
    env=forced_to("v9"), capture_output=True, text=True,
)  # fmt: skip
LEVELS = re.findall(r"\bv[234](?:bf16|amx)?\b", REFUSED.stderr.splitlines()[-1])
WHAT = {
    "v2": ("all_bounds", "adversarial"),
    "v3": ("all_digests", "adversarial"),
    "v4": ("all_digests", "adversarial"),
    "v4bf16": ("bounds_of_bf16_products",),  # all else is v4's
    "v4amx": ("bounds_of_bf16_products",),
}


@pytest.fixture(scope="module", autouse=True)
def processes(tmp_path_factory):
    """One per instruction set that this process is not on, beside the other tests of the file."""
    folder, started = tmp_path_factory.mktemp("levels"), {}
    for level in LEVELS:
        if level == fn._core.cpu_level():
            continue
        command = [sys.executable, "-W", "error", __file__, *WHAT[level]]
        out, err = folder / level, folder / f"{level}-errors"
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(command, env=forced_to(level), stdout=stdout, stderr=stderr)
        started[level] = process, out, err
    yield started
    for process, _, _ in started.values():
        process.kill()
        process.wait()


def on(level, processes):
    """What the functions of a level return: from its process, or here."""
    if level not in processes:  # where the adversarial cases are tests anyway
        return [[] if name == "adversarial" else globals()[name]() for name in WHAT[level]]
    process, out, err = processes[level]
    assert process.wait(timeout=300) == 0, err.read_text()
    return json.loads(out.read_text())


@pytest.mark.skipif(not {"v3", "v4"} <= set(LEVELS), reason="the processor has no x86-64-v4")
def test_v3_and_v4_give_the_same_bits(processes):
    """And v4 is within bounds by test_ops.py, or v3 where there is no v4."""
    here_first = sorted(("v3", "v4"), key=lambda level: level in processes)
    results = {level: on(level, processes) for level in here_first}
    (v3, failed_on_v3), (v4, failed_on_v4) = results["v3"], results["v4"]
    assert failed_on_v3 + failed_on_v4 == []
    assert [name for name in v3 if v3[name] != v4[name]] == []
    assert v3.keys() == v4.keys()


@pytest.mark.skipif("v2" not in LEVELS, reason="not an x86-64 processor")
def test_v2_is_within_bounds(processes):
    assert on("v2", processes) == [{"level": "v2"}, []]


@pytest.mark.parametrize("level", ["v4bf16", "v4amx"])
def test_products_of_bfloat16_are_within_bounds(level, processes):
    if level not in LEVELS:
        pytest.skip("the processor lacks the instructions")
    assert on(level, processes) == [{"level": level}]


def test_an_unknown_level_is_refused():
    assert REFUSED.returncode == 1
    assert REFUSED.stderr.splitlines()[-1].startswith("ValueError: FASTNN_CPU: expected one of ")
    assert REFUSED.stderr.endswith(" on this processor, got v9\n")


if __name__ == "__main__":
    print(json.dumps([globals()[name]() for name in sys.argv[1:]]))
