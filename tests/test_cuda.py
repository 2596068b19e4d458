"""The CUDA library behind the same API: on a GPU, or under the emulator on any CPU.

Run these with FASTNN_CUDA_LIBRARY naming libfastnn_cuda.so or libfastnn_cuda_emulated.so.
"""

import ctypes.util

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import available, data_error, is_emulated, needs_cuda, on_cuda
from fastnn import _core, optim, random
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.harness import SEED, check, to_tensors
from fastnn.testing.op import Op
from fastnn.testing.ops import OPS, OPTIMIZERS

ON_CUDA = [op for op in OPS if op.cuda is None]


def run_on_cuda(op: Op, sample):
    random.manual_seed(SEED)
    inputs = [on_cuda(x) for x in to_tensors(op, sample.inputs, sample.dtype)]
    y = op.call(*inputs, **sample.params)
    dy = fn.tensor(sample.dy.astype(np.float32), y.dtype, device="cuda")
    y.backward(dy)
    grads = tuple(
        None if x is None or x.grad is None else np.array(x.grad.to("cpu")) for x in inputs
    )
    return np.array(y.detach().to("cpu")), grads


def has_rows(op: Op) -> bool:
    return op.tail is not None and op.family in ("softmax", "norm", "loss")


def cases_on_cuda(op: Op, dtype: str):
    """All but norms that are followed in 16 bits by ops of their own there, on rounded numbers."""
    if dtype == "float32" or op.family != "norm":
        return op.cases
    return [(s, p) for s, p in op.cases if not (p.get("activation") or p.get("dropout_p"))]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, d, id=f"{op.short}-{d}")
        for op in ON_CUDA
        for d in op.cuda_dtypes or op.dtypes
    ],
)
def test_oracle(op, dtype):
    for shapes, params in cases_on_cuda(op, dtype):
        sample = op.sample(shapes, params, dtype)
        check(op, sample, run_on_cuda(op, sample))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("op", [op for op in ON_CUDA if op.tail], ids=lambda op: op.short)
def test_tails_and_reruns(op):
    for n in (0, 1, 3, 4, 5, 31, 32, 33, 127, 128, 129):
        shapes, params = op.tail(n)
        sample = op.sample(shapes, {**op.params[0], **params}, "float32")
        first, *again = (run_on_cuda(op, sample) for _ in range(3))
        check(op, sample, first)
        for y, grads in again:
            assert_bitwise_equal(y, first[0], f"{op.short}, {n} elements")
            for got, before in zip(grads, first[1], strict=True):
                if got is not None:
                    assert_bitwise_equal(got, before, f"{op.short}, {n} elements")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", [op for op in ON_CUDA if has_rows(op)], ids=lambda op: op.short)
def test_long_rows(op, dtype):
    """Every way that the row engine has to hold a row: one vector per lane, and none."""
    for n in (200, 300, 1100, 4200, 9001, 20_000):
        shapes, params = op.tail(n)
        sample = op.sample(shapes, {**op.params[0], **params}, dtype)
        check(op, sample, run_on_cuda(op, sample))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("transpose", [(False, False), (False, True), (True, False), (True, True)])
def test_products_have_the_bits_of_the_cpu(transpose, dtype):
    """An element's sum is the same text on both; the CPU's, where it has FMA. Not cuBLASLt's."""
    rng = np.random.default_rng(0)
    shapes = ((1, 1, 1), (5, 33, 7), (70, 20, 65), (31, 64, 400), (700, 710, 130))
    for batch in ((), (3,)):
        for m, n, k in shapes[: 5 - len(batch)]:
            a = rng.normal(size=(*batch, k, m) if transpose[0] else (*batch, m, k))
            b = rng.normal(size=(*batch, n, k) if transpose[1] else (*batch, k, n))
            host = [fn.tensor(v.astype(np.float32), dtype=dtype) for v in (a, b)]
            cpu = np.array(_core.matmul(*host, *transpose))
            cuda = np.array(_core.matmul(*[v.to("cuda") for v in host], *transpose).to("cpu"))
            level, own = fn.system.info()["cpu"], fn.cuda.info()["cublaslt"] is None
            same = level in ("v3", "v4") or (level.startswith("v4") and dtype == "float32")
            if own and same:
                np.testing.assert_array_equal(cuda, cpu)
            rtol = 1e-4 if dtype == "float32" else 2**-7
            np.testing.assert_allclose(cuda, cpu, rtol=rtol, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8"])
def test_layouts_move_on_the_device(dtype):
    for shape in ((2, 3, 4, 5), (3, 70, 9, 17), (1, 33, 1, 65), (0, 3, 4, 5)):
        x = (100 * np.random.default_rng(0).random(shape)).astype(np.float32)
        host = fn.tensor(x if dtype in ("float32", "bfloat16") else x.astype(dtype), dtype=dtype)
        moved = host.to("cuda").contiguous("channels_last")
        assert moved.layout == "nhwc"
        back = moved.contiguous()
        assert (back.layout, back.device) == ("nchw", "cuda:0")
        assert_bitwise_equal(np.array(back.to("cpu")), np.array(host), dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not is_emulated, reason="only the emulator has schedules")
@pytest.mark.parametrize("op", ON_CUDA, ids=lambda op: op.short)
def test_no_result_depends_on_the_schedule(op, monkeypatch):
    """In every order of blocks, and of threads between two barriers, the same bits."""
    sample = op.sample(*op.cases[0], "float32")
    results = []
    for schedule in ("forward", "reverse", "random:1"):
        monkeypatch.setenv("FASTNN_EMULATOR_SCHEDULE", schedule)
        results.append(run_on_cuda(op, sample))
    for y, grads in results[1:]:
        assert_bitwise_equal(y, results[0][0], op.short)
        for got, first in zip(grads, results[0][1], strict=True):
            if got is not None:
                assert_bitwise_equal(got, first, op.short)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("row", "options"),
    [pytest.param(r, o, id=f"{r.name}-{i}") for r in OPTIMIZERS for i, o in enumerate(r.options)],
)
def test_optimizers_agree_with_the_cpu(row, options):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s).astype(np.float32) for s in ((3, 5), (20_000,), (1,))]
    results = []
    for device in ("cpu", "cuda"):
        params = [fn.tensor(p, device=device, requires_grad=True) for p in start]
        optimizer = getattr(optim, row.name)(params, **options)
        for step in range(5):
            for p in params:
                gradient = np.cos(np.arange(np.prod(p.shape)) + step).astype(np.float32)
                p.grad = fn.tensor(gradient.reshape(p.shape), device=device)
            optimizer.step(max_grad_norm=100.0)
        results.append([np.array(p.detach().to("cpu")) for p in params])
    for cpu, cuda in zip(*results, strict=True):
        np.testing.assert_allclose(cuda, cpu, rtol=2e-6, atol=2e-7)


@pytest.mark.gpu
@needs_cuda
def test_a_bad_gradient_is_reported_and_changes_nothing():
    p = fn.tensor(np.ones(4, np.float32), device="cuda", requires_grad=True)
    p.grad = fn.tensor(np.array([0, 0, np.nan, 0], np.float32), device="cuda")
    message = data_error(optim.Adam([p]).step)
    assert "in parameter 0 at flat index 2; nothing was updated" in message
    np.testing.assert_array_equal(np.array(p.detach().to("cpu")), np.ones(4))


@pytest.mark.gpu
@needs_cuda
def test_what_is_missing_is_named():
    x = fn.tensor(np.ones(3, np.uint8), device="cuda")
    with pytest.raises(
        TypeError, match=r"^relu: expected a dtype with a kernel on cuda:0, got uint8$"
    ):
        fn.functional.relu(x)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("after", [(1, 0.0, None, 0.0), (0, 0.0, None, 0.5)])
def test_a_norm_refuses_what_it_would_not_fuse(after):
    x = fn.ones(2, 3).to("cuda")
    text = ": expected no activation or dropout fused on cuda; apply them to the result$"
    with pytest.raises(ValueError, match="^layer_norm" + text):
        _core.row_norm_fwd(x, (3,), None, None, 1e-5, True, after)
    with pytest.raises(ValueError, match="^batch_norm" + text):
        _core.batch_norm_fwd(x, None, None, None, None, None, True, 0.1, 1e-5, after)


@pytest.mark.gpu
@needs_cuda
def test_round_trip_and_description():
    values = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(np.array(fn.tensor(values).to("cuda").to("cpu")), values)
    assert fn.cuda.device_description()
    with pytest.raises(RuntimeError, match=r"call \.to\('cpu'\) first"):
        fn.tensor(values, device="cuda").numpy()


@pytest.mark.skipif(available, reason="there is a CUDA library")
def test_without_cuda_the_error_says_what_is_missing():
    reason = fn.cuda.why_unavailable()
    with pytest.raises(fn.CudaError) as error:
        fn.ones(2).to("cuda")
    assert str(error.value) == f"device 'cuda' is not available: {reason}"


def test_a_library_that_is_not_ours_is_refused_by_name(tmp_path):
    import subprocess
    import sys

    foreign = ctypes.util.find_library("c")
    code = "import fastnn as fn; print(fn.cuda.why_unavailable())"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"FASTNN_CUDA_LIBRARY": foreign},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.strip() == f"{foreign} is not a fastnn CUDA library"
