"""Arrays as they come: off a 16-byte line, of many rows, of more elements than 32 bits count."""

import fastnn as fn
import foreign_helpers as foreign
import numpy as np
import pytest
from cuda_helpers import available, is_emulated, needs_cuda
from fastnn import _core, optim, random
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.harness import SEED, to_tensors
from fastnn.testing.ops import OPS

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
ON_CUDA = [op for op in OPS if op.cuda is None]
RNG = np.random.default_rng(0)
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2, "uint8": 1, "int64": 8}


@pytest.fixture(autouse=True)
def _own_products():
    """An element of theirs is the same sum wherever it lies; another library may choose."""
    fn.cuda.set_product_path("tiles")
    yield
    fn.cuda.set_product_path("auto")


def shifted(x, offset):
    """The same on CUDA, from an address that many bytes past a 16-byte line."""
    if x is None:
        return None
    moved = x.detach().to("cuda")
    if offset and offset % ITEM[moved.dtype] == 0 and moved.layout == "nchw":
        size = int(np.prod(moved.shape)) * ITEM[moved.dtype]
        base = fn.zeros(size + offset, dtype="uint8", device="cuda")
        away = foreign.view(base, moved.shape, offset, moved.dtype)
        moved = away.copy_(moved)
        assert _core.data_pointer(moved) % 16 == offset
    moved.requires_grad = x.requires_grad
    return moved


def run(op, sample, offset):
    random.manual_seed(SEED)
    inputs = [shifted(x, offset) for x in to_tensors(op, sample.inputs, sample.dtype)]
    y = op.call(*inputs, **sample.params)
    dy = shifted(fn.tensor(sample.dy.astype(np.float32), y.dtype), offset)
    y.backward(dy)
    grads = [x.grad for x in inputs if x is not None and x.grad is not None]
    return [np.array(v.detach().to("cpu")) for v in (y, *grads)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", ON_CUDA, ids=lambda op: op.short)
def test_misaligned_views_have_the_bits_of_aligned_ones(op, dtype):
    if dtype not in (op.cuda_dtypes or op.dtypes):
        dtype = "float32"
    sample = op.sample(*op.cases[0], dtype)
    aligned = run(op, sample, 0)
    for offset in (4, 8, 12):
        for got, want in zip(run(op, sample, offset), aligned, strict=True):
            assert_bitwise_equal(got, want, f"{op.short}, {offset} bytes off")


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_misaligned_parameters_are_updated_to_the_same_bits(name):
    results = []
    for offset in (0, 4, 8, 12):
        params = [
            shifted(fn.tensor(np.sin(np.arange(n, dtype=np.float32)), requires_grad=True), offset)
            for n in (5, 20_000)
        ]
        optimizer = getattr(optim, name)(params, lr=0.1)
        for step in range(3):
            for p in params:
                gradient = np.cos(np.arange(p.shape[0], dtype=np.float32) + step)
                p.grad = shifted(fn.tensor(gradient), offset)
            optimizer.step(max_grad_norm=1.0)
        results.append([np.array(p.detach().to("cpu")) for p in params])
    for again in results[1:]:
        for got, want in zip(again, results[0], strict=True):
            assert_bitwise_equal(got, want, name)


ROWS = 70_000  # more than a grid's y or z has
MANY = {
    "layer_norm": (lambda x: F.layer_norm(x, (3,)), (ROWS, 3)),
    "rms_norm": (lambda x: F.rms_norm(x, (3,)), (ROWS, 3)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), (ROWS, 2)),
    "group_norm": (lambda x: F.group_norm(x, 2), (ROWS, 2, 2)),
    "softmax": (F.softmax, (ROWS, 3)),
    "log_softmax": (F.log_softmax, (ROWS, 3)),
    "cross_entropy": (lambda x: F.cross_entropy(x, on(x, np.arange(ROWS) % 3)), (ROWS, 3)),
    "embedding": (lambda x: F.embedding(on(x, np.arange(ROWS)[::-1] % 5000), x), (5000, 2)),
    "a table": (lambda x: F.embedding(on(x, np.arange(0, ROWS, 7)), x), (ROWS, 2)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (1, ROWS, 2, 2)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (ROWS, 1, 2, 2)),
    "conv2d": (lambda x: F.conv2d(x, on(x, np.ones((1, 1, 1, 2), np.float32))), (ROWS, 1, 1, 2)),
    "linear": (lambda x: F.linear(x, on(x, np.ones((2, 3), np.float32))), (ROWS, 3)),
    "dropout": (lambda x: F.dropout(x, 0.5), (ROWS, 2)),
}


def on(x, values):
    return fn.tensor(values, device=x.device)


# Minutes under the emulator, and the engines of layer_norm, softmax and batch_norm.
SLOW = ("rms_norm", "group_norm", "log_softmax") if is_emulated else ()


@pytest.mark.parametrize("name", [name for name in MANY if name not in SLOW])
def test_many_rows(name):
    call, shape = MANY[name]
    values = RNG.normal(size=shape).astype(np.float32)
    results = []
    for device in ("cpu", "cuda"):
        fn.manual_seed(0)
        x = fn.tensor(values, device=device, requires_grad=True)
        y = call(x)
        y.sum().backward()
        results.append([np.array(v.detach().to("cpu")) for v in (y, x.grad)])
    for cpu, cuda in zip(*results, strict=True):
        np.testing.assert_allclose(cuda, cpu, rtol=2e-5, atol=2e-5)


# ---- more than 2^31 elements: on the emulator, tests/cpp/cuda_emulator_large_test.cc ------------

BIG = (1 << 31) + 4099
needs_memory = pytest.mark.skipif(
    not available or _core.cuda_memory_bytes(0) < 24 << 30, reason="needs a device of 24 GB"
)


def tail(x, count=8):
    size = ITEM[x.dtype]
    return np.array(foreign.view(x, (count,), (BIG - count) * size, x.dtype).to("cpu"))


@needs_memory
def test_elementwise_and_sums_beyond_32_bits():
    x = fn.ones(BIG, dtype="bfloat16", device="cuda")
    assert tail(F.relu(x + x)).tolist() == [2] * 8
    assert float((x * 0.5).sum()) == pytest.approx(BIG / 2, rel=2**-7)


@needs_memory
def test_rows_beyond_32_bits():
    x = fn.zeros((BIG // 4 + 1) * 4, dtype="bfloat16", device="cuda").reshape(-1, 4)
    assert tail(F.softmax(x)).tolist() == [0.25] * 8


@needs_memory
def test_an_update_beyond_32_bits():
    p = fn.ones(BIG, dtype="bfloat16", device="cuda")
    p.requires_grad = True
    p.grad = fn.ones(BIG, dtype="bfloat16", device="cuda")
    optim.SGD([p], lr=0.5).step()
    assert tail(p.detach()).tolist() == [0.5] * 8
