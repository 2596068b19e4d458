"""Inside a CUDA graph that another library captures, as torch.cuda.graph does: in CUDA's global
mode, which refuses whatever waits, and under the emulator with work that runs late."""

import ctypes
import gc

import fastnn as fn
import foreign_helpers as foreign
import numpy as np
import pytest
from cuda_helpers import host, is_emulated, needs_cuda
from fastnn import functional as F

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
X = np.arange(1, 9, dtype=np.float32)


class Captured:
    """A stream of the other library, and the graph of what is put there in the context."""

    def __init__(self, runtime):
        self.runtime, self.stream, self.graph = runtime, runtime.stream(), None

    def __enter__(self):
        self.runtime.begin(self.stream)
        return self

    def __exit__(self, *error):
        if error[0] is None:
            self.graph = self.runtime.end(self.stream)
        else:
            self.abandon()

    def abandon(self):
        out = ctypes.c_void_p()
        self.runtime.functions.cudaStreamEndCapture(ctypes.c_void_p(self.stream), ctypes.byref(out))
        self.runtime.functions.cudaGetLastError()

    def replay(self):
        self.runtime.replay(self.graph, self.stream)
        self.runtime.synchronize(self.stream)

    def destroy(self):
        self.runtime.destroy(self.graph)
        self.graph = None


@pytest.fixture(params=["", "1", "others"])
def graph(request, monkeypatch):
    if not is_emulated:
        pytest.skip("of the emulated library")
    if request.param:
        monkeypatch.setenv("FASTNN_EMULATOR_LAZY", request.param)
    captured = Captured(foreign.Runtime())
    yield captured
    fn.cuda.current_stream().synchronize()
    if captured.graph:
        captured.destroy()
        with fn.cuda.stream(captured.stream):
            pass  # lets go of what the graph had
    captured.runtime.cudaStreamDestroy(ctypes.c_void_p(captured.stream))


def on_cuda(values=X):
    return fn.tensor(values, device="cuda")


def test_a_replay_computes_anew(graph):
    x, target = on_cuda(), fn.zeros(8, device="cuda")
    fn.cuda.current_stream().synchronize()
    with graph, fn.cuda.stream(graph.stream):
        y = F.softmax(x + x) * 3.0  # memory comes, goes and comes again
        target.copy_(y)
    for scale in (1, 2):
        x.copy_(on_cuda(scale * X))
        fn.cuda.current_stream().synchronize()
        graph.replay()
        want = np.exp(2 * scale * (X - 8))
        for got in (y, target):
            np.testing.assert_allclose(host(got), 3 * want / want.sum(), rtol=1e-5)


def test_the_context_may_come_first(graph):
    x = on_cuda()
    with fn.cuda.stream(graph.stream):
        warm = x + x
        with graph:
            y = x + warm
    graph.replay()
    np.testing.assert_array_equal(host(y), 3 * X)


def test_a_graph_keeps_what_it_reads_and_owns_what_it_makes(graph):
    x = on_cuda()
    fn.cuda.current_stream().synchronize()
    foreign_x = foreign.Array(graph.runtime.memory(X.nbytes), X.shape, runtime=graph.runtime,
                              stream=graph.stream)  # fmt: skip
    graph.runtime.write(foreign_x.data, X, graph.stream)
    graph.runtime.synchronize(graph.stream)
    before = foreign.Array.live
    with graph, fn.cuda.stream(graph.stream):
        y = x + foreign_x
    assert foreign_x.asked == [-1]  # in a capture there is nobody to wait for
    del x
    gc.collect()
    others = [on_cuda(-X) for _ in range(8)]  # would take the memory if it were free
    graph.replay()
    np.testing.assert_array_equal(host(y), 2 * X)
    assert foreign.Array.live == before + 1
    del y, others
    graph.destroy()
    with fn.cuda.stream(graph.stream):
        pass
    fn.cuda.current_stream().synchronize()
    assert foreign.Array.live == before


def test_constants_of_a_graph_are_its_own(graph):
    """Tables that ops write on the host, read by every replay and given to nobody."""
    x = on_cuda(np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7))
    with fn.cuda.stream(graph.stream):
        want = host(F.adaptive_avg_pool2d(x, (3, 2)))
    fn.cuda.current_stream().synchronize()
    with graph, fn.cuda.stream(graph.stream):
        y = F.adaptive_avg_pool2d(x, (3, 2))
        for _ in range(4):
            F.adaptive_avg_pool2d(x + x, (2, 5))
    for _ in range(2):
        graph.replay()
        np.testing.assert_array_equal(host(y), want)


def test_gradients_are_part_of_a_graph(graph):
    w = fn.tensor(np.eye(3, dtype=np.float32), device="cuda", requires_grad=True)
    x = on_cuda(np.ones((2, 3), np.float32))

    def step():
        w.grad = None
        F.mse_loss(F.relu(F.linear(x, w)), x * 2.0).backward()

    with fn.cuda.stream(graph.stream):
        step()
        want = host(w.grad)
        with graph:
            step()
    for _ in range(2):
        graph.replay()
        np.testing.assert_array_equal(host(w.grad), want)


def test_a_captured_function_replays_into_a_graph(graph):
    function = fn.capture(lambda v: F.tanh(v) + v)
    x = on_cuda()
    function(x)
    fn.cuda.current_stream().synchronize()
    with graph, fn.cuda.stream(graph.stream):
        y = function(x).clone()
    del function  # the graph keeps its memory
    gc.collect()
    for scale in (1, 3):
        x.copy_(on_cuda(scale * X))
        fn.cuda.current_stream().synchronize()
        graph.replay()
        np.testing.assert_allclose(host(y), np.tanh(scale * X) + scale * X, rtol=1e-6)


START = "capture: expected work that the host does not wait for, while another library captures "
LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(("what", "call"), [
    ("a copy between host and device", lambda x: x.to("cpu")),
    ("a copy between host and device", lambda x: (x + x).sum().item()),
    ("a copy between host and device", lambda x: x.copy_(X)),
    ("a copy between host and device", lambda x: x.copy_(X, non_blocking=True)),
    ("a copy between host and device", lambda x: fn.tensor(X, device="cuda")),
    ("a copy between host and device", repr),
    ("an op that reports bad data",
     lambda x: F.cross_entropy(x.reshape(2, 4), fn.from_dlpack(DEVICE_LABELS[0]))),
    ("the first call of a captured function", lambda x: fn.capture(lambda v: v + v)(x)),
    ("a wait of the host", lambda x: fn.cuda.current_stream().synchronize()),
])  # fmt: skip
def test_what_the_host_would_wait_for_is_refused(graph, what, call):
    x = on_cuda()
    DEVICE_LABELS[:] = [fn.tensor(LABELS, device="cuda")]
    fn.cuda.current_stream().synchronize()
    with graph, fn.cuda.stream(graph.stream):
        y = x + x
        with pytest.raises(fn.CaptureError) as caught:
            call(x)
    assert str(caught.value) == f"{START}the stream, got {what}; do it before or after"
    graph.replay()  # the capture went on
    np.testing.assert_array_equal(host(y), 2 * X)


DEVICE_LABELS = []


def test_what_would_spoil_a_capture_is_refused(graph):
    """Waits between a stream that is captured and one that is not, either way."""
    x = on_cuda()
    text = (
        ": expected both libraries to work in one capture, got a stream that is captured and one "
        "that is not in it; use fastnn.cuda.stream() inside"
    )
    foreign.ExchangedArray.current = graph.stream
    theirs = foreign.ExchangedArray(graph.runtime.memory(4), (1,))
    with graph:
        for call, name in ((lambda: x.__dlpack__(stream=graph.stream), "__dlpack__"),
                           (lambda: F.relu(theirs), "from_dlpack")):  # fmt: skip
            with pytest.raises(fn.CaptureError) as caught:
                call()
            assert str(caught.value) == name + text
        with fn.cuda.stream(graph.stream):
            F.relu(theirs)
            x.__dlpack__(stream=graph.stream)
            with pytest.raises(fn.CaptureError):
                x.__dlpack__(stream=1)


def test_own_work_goes_on_beside_a_capture(graph):
    """Another thread's, or before the context: nothing of it is in the graph, or ends it."""
    x = on_cuda()
    with graph:
        y = x + x
        function = fn.capture(lambda v: v * 2.0)
        for _ in range(2):
            np.testing.assert_array_equal(host(function(y)), 4 * X)
        with fn.cuda.stream(graph.stream):
            z = x + x
    del y
    graph.replay()
    np.testing.assert_array_equal(host(z), 2 * X)


# ---- torch, where it has a GPU -------------------------------------------------------------------


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    if is_emulated or not torch.cuda.is_available():
        pytest.skip("torch has no GPU")
    return torch


def test_inside_a_graph_of_torch(torch):
    x = torch.arange(1.0, 9.0, device="cuda")
    target = torch.zeros(8, device="cuda")

    def step():
        with fn.cuda.stream(torch.cuda.current_stream()):
            fn.from_dlpack(target).copy_(F.softmax(fn.from_dlpack(x) * 2.0))

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # the first call of an op may do more
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for scale in (1.0, 3.0):
        x.copy_(scale * torch.arange(1.0, 9.0, device="cuda"))
        graph.replay()
        torch.testing.assert_close(target, torch.softmax(x * 2, 0))


def test_streams_of_torch(torch):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        x = torch.randn(1 << 20, device="cuda")
        for _ in range(20):
            x = x.cos()
        with fn.cuda.stream(side):
            y = F.relu(x)
        got = torch.from_dlpack(y)
        torch.testing.assert_close(got, x.relu())
    torch.testing.assert_close(torch.from_dlpack(F.relu(got)), got)


def test_streams_of_cupy():
    cupy = pytest.importorskip("cupy")
    with cupy.cuda.Stream(non_blocking=True) as side:
        x = cupy.arange(1 << 20, dtype=cupy.float32)
        with fn.cuda.stream(side):
            y = F.relu(fn.from_dlpack(x) * -1.0 + 5.0)
        cupy.testing.assert_array_equal(cupy.from_dlpack(y), cupy.maximum(5 - x, 0))
