"""fastnn as a guest in a process: fork, threads, the GIL, floating-point state, import."""

import os
import platform
import subprocess
import sys
import threading
import time

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or forks")
X = np.random.default_rng(0).standard_normal((600, 300)).astype(np.float32)


def threads_of_this_process():
    return set(os.listdir("/proc/self/task"))


def are_soon_all(threads):
    """Whether no others are left: Linux lists a thread for a moment after it has been joined."""
    for _ in range(10_000):
        if threads_of_this_process() <= threads:
            return True
        time.sleep(0.001)
    return False


def work(seed=0):
    """A few steps on several threads; returns the weights."""
    fn.manual_seed(seed)
    model = fn.nn.Sequential(fn.nn.Linear(300, 200), fn.nn.GELU(), fn.nn.Dropout(0.2),
                             fn.nn.Linear(200, 10))  # fmt: skip
    optimizer = fn.optim.Adam(model.parameters())
    labels = np.arange(600) % 10
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(X), labels).backward()
        optimizer.step()
    return np.concatenate([np.array(p.detach()).ravel() for p in model.parameters()])


def run_code(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


# ---- fork -------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("times", range(5))
def test_a_forked_child_trains(times):
    """In a process of its own, since pytest's own threads make fork() warn."""
    code = f"""
import os, sys, threading
sys.path.insert(0, {os.path.dirname(__file__)!r})
import fastnn as fn
import test_process as t
fn.set_num_threads(4)
expected = t.work()
if {times} % 2:  # fork while another thread is inside a kernel
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            t.work(1)
    thread = threading.Thread(target=busy)
    thread.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        ok = (t.work() == expected).all()
        grandchild = os.fork()  # and once more, from a child that has used its pool
        if grandchild == 0:
            os._exit(0 if (t.work() == expected).all() else 4)
        ok = ok and os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if ok else 3)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
if {times} % 2:
    stop.set()
    thread.join()
assert (t.work() == expected).all()
assert statuses == [0] * 4, statuses
"""
    result = run_code(code, PYTHONWARNINGS="ignore")
    assert result.returncode == 0, result.stderr


POOL = """
import multiprocessing, sys
sys.path.insert(0, {tests!r})
import test_process as t

def remote(seed):
    return t.work(seed)

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        assert (pool.apply_async(remote, (5,)).get(timeout=100) == t.work(5)).all()
"""


@linux
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_ways_to_start_a_process(method, tmp_path):
    script = tmp_path / "pool.py"  # a file: the children import it
    script.write_text(POOL.format(tests=os.path.dirname(__file__), method=method))
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


# ---- threads -----------------------------------------------------------------------------------


def test_two_python_threads_get_what_one_gets():
    fn.set_num_threads(3)
    x = fn.tensor(X)
    w = fn.tensor(np.random.default_rng(1).standard_normal((200, 300)), requires_grad=True)
    functions = [
        lambda: np.array(F.gelu(x)),
        lambda: np.array(F.softmax(x)),
        lambda: np.array(F.layer_norm(x, 300)),
        lambda: np.array(F.linear(x, w.detach(), activation="tanh")),
        lambda: np.array(F.cross_entropy(x, np.arange(600) % 300, reduction="none")),
    ]
    expected = [f() for f in functions]
    errors = []

    def repeat(offset):
        try:
            for i in range(60):
                k = (i + offset) % len(functions)
                assert_bitwise_equal(functions[k](), expected[k])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_data_errors_stay_in_their_thread():
    """The status word is per thread: a bad label in one is no error in another."""
    caught = {}

    def train(name, label):
        for _ in range(200):
            try:
                F.cross_entropy(np.zeros((4, 3), np.float32), [0, 1, 2, label])
            except ValueError as error:
                caught.setdefault(name, set()).add(str(error))

    threads = [threading.Thread(target=train, args=(n, v)) for n, v in (("good", 0), ("bad", 3))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert caught == {"bad": {"cross_entropy: expected 0 <= target < 3, got 3 at target[3]"}}


def test_long_kernels_let_other_threads_run():
    """A heartbeat counts while one matmul runs that no switch interval could interrupt."""
    a = fn.tensor(np.ones((1500, 1500)))
    a @ a
    fn.set_num_threads(1)
    beats, stop = [0], threading.Event()

    def heartbeat():
        while not stop.is_set():
            beats[0] += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=heartbeat)
    thread.start()
    while beats[0] < 3:
        time.sleep(1e-4)
    counted = 0
    for _ in range(10):
        before = beats[0]
        a @ a
        counted += beats[0] - before
    stop.set()
    thread.join()
    assert counted >= 10


@linux
def test_import_starts_no_thread_and_small_work_neither():
    code = """
import os
import numpy as np
before = len(os.listdir("/proc/self/task"))
import fastnn as fn
assert len(os.listdir("/proc/self/task")) == before
fn.set_num_threads(4)
(fn.ones(10) + 1.0).sum().item()
assert len(os.listdir("/proc/self/task")) == before
fn.ones(3_000_000) + 1.0
assert len(os.listdir("/proc/self/task")) == before + 3
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr


def test_import_loads_little():
    code = """
import sys
import numpy
before = set(sys.modules)
import fastnn
loaded = set(sys.modules) - before
new = {m.split(".")[0] for m in loaded if not m.startswith("_")}
print(sorted(new - set(sys.stdlib_module_names)))
later = ("fastnn.cli", "fastnn.data", "fastnn.optim.lr_scheduler", "fastnn.testing", "fastnn.train")
print([m for m in later if m in loaded])
fastnn.optim.lr_scheduler.StepLR
"""
    assert run_code(code).stdout.splitlines() == ["['fastnn']", "[]"]


@pytest.mark.parametrize(("name", "reason"), [
    ("FASTNN_NUM_THREADS", "FASTNN_NUM_THREADS"), ("OMP_NUM_THREADS", "OMP_NUM_THREADS"),
])  # fmt: skip
def test_threads_from_the_environment(name, reason):
    code = "import fastnn as fn; from fastnn.system import info; i = info(); "
    code += "print(fn.get_num_threads(), i['threads_reason'])"
    clean = {"FASTNN_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    assert run_code(code, **{**clean, name: "3"}).stdout.split() == ["3", reason]


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_set_num_threads_out_of_range(threads):
    with pytest.raises(ValueError, match="set_num_threads: expected 1 <= threads <= ") as caught:
        fn.set_num_threads(threads)
    assert str(caught.value).endswith(f", got {threads}")


def test_threadpoolctl_can_limit():
    code = """
import threadpoolctl
import fastnn as fn
fn.set_num_threads(4)
with threadpoolctl.threadpool_limits(2, user_api="fastnn"):
    assert fn.get_num_threads() == 2
assert fn.get_num_threads() == 4
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr


# ---- floating-point state ----------------------------------------------------------------------


def denormals_live():
    tiny = np.array([1e-40, 2.0**-149], np.float32)
    return bool(((tiny * np.float32(1)) != 0).all() and (np.float64(1e-310) * 1.0 != 0))


def mxcsr():
    """The control bits of the SSE unit: rounding, masks, flush-to-zero, denormals-are-zero."""
    import ctypes
    import mmap

    code = b"\x0f\xae\x5c\x24\xf8\x8b\x44\x24\xf8\xc3"  # stmxcsr [rsp-8]; mov eax, [rsp-8]; ret
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    value = ctypes.CFUNCTYPE(ctypes.c_uint32)(address)()
    return value & ~0x3F  # without the sticky exception flags


@pytest.mark.skipif(platform.machine() != "x86_64", reason="MXCSR is a register of x86")
def test_floating_point_state_is_left_alone():
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import numpy as np
import importlib.util
source = open({__file__!r}).read()
start, end = source.index("def denormals_live"), source.index("@pytest.mark.skipif(platform")
namespace = {{"np": np}}
exec(source[start:end], namespace)
mxcsr, live = namespace["mxcsr"], namespace["denormals_live"]
before = mxcsr()
assert before == 0x1F80, hex(before)  # the default: all masked, to nearest, no flushing
assert live()
import fastnn
assert mxcsr() == before and live()
import test_process
fastnn.set_num_threads(3)
test_process.work()
assert mxcsr() == before and live()
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr


def test_subnormals_survive_the_kernels():
    x = np.full(5000, 2.0**-140, np.float32)
    for f in (F.relu, F.silu, F.tanh, lambda v: fn.tensor(v) * 1.0, lambda v: F.dropout(v, 0.5)):
        assert np.array(f(x)).max() > 0


def test_numpy_state_is_left_alone():
    errors, state = np.geterr(), np.random.get_state()[1].tobytes()
    work()
    assert np.geterr() == errors
    assert np.random.get_state()[1].tobytes() == state
