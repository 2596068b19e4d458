"""Work on streams of other libraries, and arrays that come and go with them. Under the emulator
nothing runs before somebody waits, and then in the order that hurts; the other library is written
in foreign_helpers.py. torch and CuPy are asked where they have a GPU."""

import ctypes
import functools
import gc

import fastnn as fn
import foreign_helpers as foreign
import numpy as np
import pytest
from cuda_helpers import emulated, host, needs_cuda
from fastnn import _core, nn
from fastnn import functional as F

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
X = np.arange(1, 9, dtype=np.float32)


@pytest.fixture(params=["1", "others"])
def lazy(request, monkeypatch):
    monkeypatch.setenv("FASTNN_EMULATOR_LAZY", request.param)
    yield
    fn.cuda.current_stream().synchronize()


@pytest.fixture
def other():
    """The other library's runtime and a stream of its own."""
    runtime = foreign.Runtime()
    stream = runtime.stream()
    yield runtime, stream
    runtime.cudaDeviceSynchronize()
    runtime.cudaStreamDestroy(ctypes.c_void_p(stream))


def on_cuda(values=X):
    return fn.tensor(values, device="cuda")


# ---- whose stream ------------------------------------------------------------------------------


def test_a_stream_is_understood_in_every_form():
    own = fn.cuda.current_stream()
    assert own.__cuda_stream__() == (0, own.ptr) == (0, own.cuda_stream)

    class Torch:
        cuda_stream = 1

    class CuPy:
        ptr = 2

    class CudaCore:
        def __cuda_stream__(self):
            return (0, 1)

    for on, ptr in ((0, 1), (1, 1), (Torch(), 1), (CuPy(), 2), (CudaCore(), 1), (own, own.ptr),
                    (None, own.ptr)):  # fmt: skip
        with fn.cuda.stream(on) as inside:
            assert inside.ptr == fn.cuda.current_stream().ptr == ptr
            with fn.cuda.stream(None):
                assert fn.cuda.current_stream() == own
            assert fn.cuda.current_stream() == inside
        assert fn.cuda.current_stream() == own


class OldProtocol:
    def __cuda_stream__(self):
        return (7, 1)


@pytest.mark.parametrize(("on", "error", "message"), [
    ("x", TypeError, "cuda.stream: expected a handle, an object with __cuda_stream__, cuda_stream "
     "or ptr, or None, got str"),
    (True, TypeError, "cuda.stream: expected a handle, an object with __cuda_stream__, cuda_stream "
     "or ptr, or None, got bool"),
    (-1, ValueError, "cuda.stream: expected a handle >= 0, got -1"),
    (OldProtocol(), TypeError,
     "cuda.stream: expected version 0 of __cuda_stream__, got version 7"),
])  # fmt: skip
def test_what_is_no_stream_is_refused(on, error, message):
    with pytest.raises(error) as caught:
        fn.cuda.stream(on)
    assert str(caught.value) == message


@emulated
def test_a_switch_orders_both_streams(lazy, other):
    runtime, stream = other
    x = on_cuda()
    for _ in range(2):
        y = x + x
        with fn.cuda.stream(stream):
            z = y + x
        w = z + y
        np.testing.assert_array_equal(host(w), 5 * X)
        runtime.synchronize(stream)
    with fn.cuda.stream(stream):
        y.copy_(on_cuda(7 * X))
        z = y + x
        np.testing.assert_array_equal(host(z), 8 * X)


@emulated
def test_without_the_event_the_result_is_wrong(lazy, other):
    """The planted bug: what fn.cuda.stream does, without its wait."""
    runtime, stream = other
    seen = []
    for ordered in (True, False):
        memory = runtime.memory(X.nbytes)
        mine = fn.from_dlpack(foreign.Array(memory, X.shape, runtime=runtime, stream=stream))
        runtime.write(memory, X, stream)  # after the consumer was let wait
        if ordered:
            runtime.order(stream, fn.cuda.current_stream().ptr)
        doubled = mine + mine
        runtime.write(memory, 0 * X, stream) if not ordered else None
        seen.append(np.array_equal(host(doubled), 2 * X))
    assert seen == [True, False]


@emulated
def test_memory_is_freed_behind_every_stream(other, monkeypatch):
    """The other thread's stream still reads what this thread frees."""
    import threading

    monkeypatch.setenv("FASTNN_EMULATOR_LAZY", "1")
    _, stream = other
    x, entered, left, results = on_cuda(), threading.Event(), threading.Event(), []

    def work():
        with fn.cuda.stream(stream):
            y = x + x
            entered.set()
            left.wait()
            results.append(y)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    x = None
    fn.cuda.current_stream().synchronize()  # the memory is another's now
    left.set()
    thread.join()
    np.testing.assert_array_equal(host(results[0]), 2 * X)


def test_a_stream_is_of_its_thread():
    import threading

    own, seen = fn.cuda.current_stream(), []
    with fn.cuda.stream(1):
        thread = threading.Thread(target=lambda: seen.append(fn.cuda.current_stream()))
        thread.start()
        thread.join()
    assert seen == [own]


def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


@emulated
@pytest.mark.parametrize("captured", [False, True])
def test_training_on_a_second_stream_has_the_same_bits(other, captured, monkeypatch):
    _, stream = other
    weights = []
    for on in (None, stream, 1):
        monkeypatch.setenv("FASTNN_EMULATOR_LAZY", "1")
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 1))
        model.to("cuda")
        optimizer = fn.optim.Adam(model.parameters())
        step = functools.partial(train_step, model, optimizer)
        step = fn.capture(step) if captured else step
        for i in range(4):
            x, y = on_cuda(np.outer(X, X) / (i + 9)), on_cuda(X.reshape(8, 1))
            with fn.cuda.stream(on):
                step(x, y)
        weights.append([host(p) for p in model.parameters()])
    for again in weights[1:]:
        for got, want in zip(again, weights[0], strict=True):
            np.testing.assert_array_equal(got, want)


@emulated
def test_no_op_waits_for_the_device(lazy, other):
    """What was launched first has not run when the last op returns."""
    x = on_cuda(np.ones((2, 3, 8, 8), np.float32))
    w = on_cuda(np.ones((4, 3, 3, 3), np.float32))
    pointer = _core.data_pointer(first := x + x)
    y = F.max_pool2d(F.relu(F.conv2d(x, w)), 2).contiguous("channels_last").clone()
    F.softmax(F.layer_norm(y.reshape(2, -1), (36,))).copy_(fn.zeros(2, 36, device="cuda"))
    assert np.isnan(foreign.values_at(pointer, (384,))).all()
    assert host(first).min() == 2


# ---- DLPack ------------------------------------------------------------------------------------


@emulated
@pytest.mark.parametrize("kind", [foreign.Array, foreign.ExchangedArray])
def test_an_array_comes_in_behind_its_stream(lazy, other, kind):
    runtime, stream = other
    memory = runtime.memory(X.nbytes)
    runtime.write(memory, X, stream)
    foreign.ExchangedArray.current = stream
    array = kind(memory, X.shape, runtime=runtime, stream=stream)
    np.testing.assert_array_equal(host(F.relu(array) + array), 2 * X)
    inside = kind(memory, (3,), runtime=runtime, stream=stream, offset=8)
    np.testing.assert_array_equal(host(fn.from_dlpack(inside)), X[2:5])
    own = fn.cuda.current_stream().ptr
    assert set(array.asked) == ({own} if kind is foreign.Array else set())


@emulated
def test_an_owner_is_kept_until_the_last_use(lazy, other):
    runtime, stream = other
    memory = runtime.memory(X.nbytes)
    runtime.write(memory, X, stream)
    array = foreign.Array(memory, X.shape, runtime=runtime, stream=stream)

    def freed():  # as the other library would: its memory is written by somebody else at once
        ctypes.memset(memory, 255, X.nbytes)

    array.when_deleted = freed
    before = foreign.Array.live
    mine = fn.from_dlpack(array)
    y = mine + mine
    del mine
    gc.collect()
    assert foreign.Array.live == before + 1
    np.testing.assert_array_equal(host(y), 2 * X)
    fn.cuda.current_stream().synchronize()
    assert foreign.Array.live == before


@emulated
def test_the_consumer_waits_by_the_stream_it_gives(lazy, other):
    runtime, stream = other
    for given, waits in ((stream, True), (-1, False)):
        x = on_cuda()
        y = x + x
        capsule = y.__dlpack__(stream=given, max_version=(1, 3))
        managed = foreign.Managed.from_address(
            foreign.PY.PyCapsule_GetPointer(capsule, foreign.CAPSULE)
        )
        t = managed.tensor
        assert (t.device_type, t.device_id, t.ndim, managed.flags) == (foreign.CUDA, 0, 1, 0)
        target = runtime.memory(X.nbytes)
        runtime.cudaMemcpyAsync(
            ctypes.c_void_p(target), ctypes.c_void_p(t.data), ctypes.c_size_t(X.nbytes), 3,
            ctypes.c_void_p(stream),
        )  # fmt: skip
        if waits:
            runtime.synchronize(stream)
            np.testing.assert_array_equal(foreign.values_at(target, X.shape), 2 * X)
        else:
            runtime.synchronize(fn.cuda.current_stream().ptr)
            runtime.synchronize(stream)


def test_the_arguments_of_dlpack():
    x = on_cuda()
    for stream in (None, 1, 2, -1, fn.cuda.current_stream().ptr):
        x.__dlpack__(stream=stream, max_version=(1, 3))
    host = np.from_dlpack(x, device="cpu") if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else X
    np.testing.assert_array_equal(host, X)
    with pytest.raises(ValueError, match="handle, got 0") as caught:
        x.__dlpack__(stream=0)
    assert str(caught.value) == "__dlpack__: expected stream None, 1, 2, -1 or a handle, got 0"
    for arguments, message in (
        ({"dl_device": (1, 0), "copy": False},
         "__dlpack__: expected copy None or True for dl_device (1, 0), got False for a Tensor on "
         "cuda:0"),
        ({"dl_device": (2, 5)},
         "__dlpack__: expected dl_device (2, 0) or (1, 0) for a Tensor on cuda:0, got (2, 5)"),
    ):  # fmt: skip
        with pytest.raises(BufferError) as caught:
            x.__dlpack__(**arguments)
        assert str(caught.value) == message
    y = fn.from_dlpack(x)
    assert _core.data_pointer(y) == _core.data_pointer(x)


def test_what_cannot_come_in_is_named(request):
    x = on_cuda(np.ones((2, 3), np.float32))
    strided = foreign.Array(_core.data_pointer(x), (3, 2), strides=(1, 3))
    with pytest.raises(ValueError, match="copy it first") as caught:
        F.relu(strided)
    assert str(caught.value) == (
        "from_dlpack: expected a contiguous array, got strides that are neither row-major nor "
        "channels-last; copy it first"
    )
    strided.device = (foreign.CUDA, 99)
    with pytest.raises(ValueError, match="expected a CUDA device below"):
        _core.from_dlpack(strided.__dlpack__())
    strided.device = (10, 0)
    with pytest.raises(ValueError, match="device type 10"):
        fn.from_dlpack(strided)


# ---- __cuda_array_interface__ ------------------------------------------------------------------


class Interface:
    def __init__(self, **interface):
        self.__cuda_array_interface__ = interface


def test_the_array_interface_goes_out():
    x = on_cuda(np.ones((2, 3), np.float32))
    assert x.__cuda_array_interface__ == {
        "version": 3, "typestr": "<f4", "shape": (2, 3), "strides": (12, 4),
        "data": (_core.data_pointer(x), False), "stream": fn.cuda.current_stream().ptr,
    }  # fmt: skip
    assert not hasattr(fn.ones(2), "__cuda_array_interface__")
    assert not hasattr(x.to("bfloat16"), "__cuda_array_interface__")


@emulated
def test_the_array_interface_comes_in(lazy, other):
    runtime, stream = other
    memory = runtime.memory(X.nbytes)
    runtime.write(memory, X, stream)
    of = {"version": 3, "typestr": "<f4", "shape": (8,), "strides": None, "data": (memory, True)}
    np.testing.assert_array_equal(host(fn.from_dlpack(Interface(**of, stream=stream))), X)
    np.testing.assert_array_equal(host(F.relu(Interface(**of, stream=None))), X)
    rule = "tensor: expected __cuda_array_interface__ "
    for change, error, message in (
        ({"typestr": "<f8"}, TypeError, "of float32, float16, uint8 or int64, got '<f8'"),
        ({"mask": 1}, TypeError, "without a mask, got one with it"),
        ({"strides": (8,)}, ValueError, "of a contiguous array, got strides that are neither "
         "row-major nor channels-last; copy it first"),
        ({"strides": (4, 4)}, ValueError, "of as many strides as axes, got 2 and 1"),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            fn.from_dlpack(Interface(**{**of, **change}, stream=stream))
        assert str(caught.value) == rule + message
    with pytest.raises(TypeError) as caught:
        fn.from_dlpack([1.0])
    assert str(caught.value) == "from_dlpack: expected an array with __dlpack__, got list"
