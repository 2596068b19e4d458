"""Batches made ahead: what NumPy and the pipeline make, on any threads; memory that nobody
overwrites; errors, fork, interrupts and the end of the interpreter."""

import gc
import os
import re
import sys
import threading
import traceback
import weakref

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn.data import Loader, augment
from test_augment_training import PIPELINES
from test_process import are_soon_all, linux, run_code, threads_of_this_process

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 70)
BIG = RNG.normal(size=(96, 4000)).astype(np.float32)  # a batch of 32 rows is worth a thread


class Lazy:
    """Samples by number, which only Python can read."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


def has_thread(loader):
    ahead = loader._start(np.arange(len(loader.x)), 0)
    try:
        return ahead.has_thread
    finally:
        ahead.close()


def same(batches, others):
    for (x, y), (a, b) in zip(batches, others, strict=True):
        assert (x.dtype, x.shape, y.dtype) == (a.dtype, a.shape, b.dtype)
        assert x.tobytes() == a.tobytes()
        assert y.tobytes() == b.tobytes()


# ---- what is made -------------------------------------------------------------------------------

ROWS = {
    "numbers": np.arange(50),
    "float64": RNG.normal(size=(50, 3)),
    "float16": RNG.normal(size=(50, 2, 2)).astype(np.float16),
    "no columns": np.zeros((50, 0), np.float32),
    "booleans": RNG.integers(0, 2, (50, 5)).astype(bool),
    "texts": np.array([f"text {i}" for i in range(50)]),
    "records": np.array([(i, i / 2) for i in range(50)], [("a", "i4"), ("b", ">f8")]),
    "many axes": RNG.integers(0, 9, (50, *[1] * 10)),
    "enough for a thread": RNG.normal(size=(50, 9000)),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("ahead", [0, 2])
def test_rows_are_those_of_numpy(rows, ahead):
    x, y = ROWS[rows], np.array([str(i) for i in range(50)])
    for order in (fn.random.permutation(50, 3, 0), np.arange(50)):
        loader = Loader(x, y, 8, seed=3, shuffle=bool(order[0]), prefetch=ahead)
        same(loader, [(x[order[i : i + 8]], y[order[i : i + 8]]) for i in range(0, 50, 8)])
    assert all(b is None for _, b in Loader(x, None, 8, prefetch=ahead))
    assert list(Loader(x[:0], y[:0], 8, prefetch=ahead)) == []


def test_objects_and_strides_are_read_by_python():
    y = np.array([{"i": i} for i in range(9)])
    assert [b["i"] for _, ys in Loader(BIG[:9], y, 4, shuffle=False) for b in ys] == [*range(9)]
    every_other = BIG[::2, ::3]
    same(
        Loader(every_other, LABELS[:48], 10, shuffle=False),
        [(every_other[i : i + 10], LABELS[:48][i : i + 10]) for i in range(0, 48, 10)],
    )


def test_a_thread_only_where_it_pays(tmp_path):
    """Small rows of memory are copied in less time than a thread takes to wake up."""
    tiny = BIG[:, :64].copy()
    assert not has_thread(Loader(tiny, batch_size=32))
    assert has_thread(Loader(BIG, batch_size=32))
    assert has_thread(Loader(IMAGES, LABELS, 32, augment=PIPELINES["native"]))
    assert has_thread(Loader(Lazy(tiny), batch_size=32))
    assert not has_thread(Loader(Lazy(tiny), batch_size=32, prefetch=0))
    np.save(tmp_path / "x.npy", tiny)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader = Loader(np.asarray(mapped)[10:], batch_size=32, shuffle=False)
    assert has_thread(loader)
    assert (np.concatenate([x for x, _ in loader]) == tiny[10:]).all()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_same_bits_from_every_source_threads_and_place_to_resume(pipeline):
    def loader(x, ahead=2):
        return Loader(x, LABELS, 16, augment=PIPELINES[pipeline], seed=9, prefetch=ahead)

    expected = [list(epoch) for epoch in [loader(Lazy(IMAGES), 0)] * 2]
    for threads in (1, 2, 4):
        fn.set_num_threads(threads)
        for x in (IMAGES, Lazy(IMAGES), np.asfortranarray(IMAGES)):
            epochs = loader(x)
            same(epochs, expected[0])
            same(epochs, expected[1])
        for done in range(1, 5):
            first, second = loader(IMAGES), loader(IMAGES)
            begun = iter(first)
            for _ in range(done):
                next(begun)
            second.load_state_dict(first.state_dict())
            assert second.done == 16 * done
            same(second, expected[0][done:])
            same(second, expected[1])


def test_floats_are_converted_as_by_the_pipeline():
    wide, labels = IMAGES / 255.0, LABELS.astype(np.int32)
    pipeline = augment.Compose([augment.RandomCrop(12, padding=2), augment.Normalize(0.5, 0.25)])
    loader = Loader(wide, labels, 16, augment=pipeline, seed=2, shuffle=False)
    whole = pipeline(wide.astype(np.float32), seed=2, epoch=0)
    assert (np.concatenate([x for x, _ in loader]) == whole).all()


def test_a_batch_stays_and_its_memory_is_used_again_only_after():
    loader = Loader(BIG, np.arange(96), 32, shuffle=False)
    kept = list(loader)
    views = [x[1:, ::2] for x, _ in kept]
    before = _core.memory_stats()
    for _ in range(10):
        for x, _ in loader:
            x += 1  # a batch is the caller's
    after = _core.memory_stats()
    # At most: one given, two ready, one in hand, each of x and y.
    assert after["system_allocations"] - before["system_allocations"] <= 8
    assert (np.concatenate([x for x, _ in kept]) == BIG).all()
    assert (np.concatenate([y for _, y in kept]) == np.arange(96)).all()
    del kept, x
    assert (views[0] == BIG[1:32, ::2]).all()
    del views
    assert _core.memory_stats()["live_bytes"] < before["live_bytes"]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (np.arange(95), "96 indices, got shape (95,) of int64"),
        (np.arange(96.0), "96 indices, got shape (96,) of float64"),
        (np.arange(1, 97), "indices below 96, got 96 at 95"),
        (np.arange(96) - 1, "indices below 96, got -1 at 0"),
    ],
)  # fmt: skip
def test_an_order_that_is_none(order, message):
    message = f"Loader: expected a sampler that gives {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        next(iter(Loader(BIG, shuffle=lambda n, seed, epoch: order)))


def test_labels_that_are_no_classes_are_named_by_the_thread():
    labels = np.where(np.arange(70) == 40, 7, LABELS)
    loader = Loader(IMAGES, labels, 16, shuffle=False, augment=PIPELINES["mixup"])
    message = r"^MixUp: expected 0 <= labels < 4, got 7 at labels\[8\]$"
    seen = []
    with pytest.raises(ValueError, match=message):
        seen.extend(loader)
    assert loader.done == 32
    assert len(seen) == 2


# ---- a function of Python -----------------------------------------------------------------------


def squares(count, ahead):
    return _core.prefetch(lambda i: i * i, count, ahead)


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_in_order_and_no_more(ahead):
    made = squares(100, ahead)
    assert [made.get() for _ in range(100)] == [i * i for i in range(100)]
    with pytest.raises(_core.PrefetchError, match=r"^prefetch: expected to be asked 100 times"):
        made.get()
    made.close()


def no_picture(i):
    raise KeyError(f"no picture {i}")


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_has_its_traceback(ahead):
    made = _core.prefetch(lambda i: no_picture(i) if i == 2 else i, 9, ahead)
    assert [made.get(), made.get()] == [0, 1]
    with pytest.raises(KeyError, match="no picture 2") as error:
        made.get()
    names = [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert names[-2:] == ["<lambda>", "no_picture"]
    if ahead:
        with pytest.raises(_core.PrefetchError, match=r"not after close\(\)$"):
            made.get()


def test_a_thread_keeps_what_is_its_own():
    local, threads = threading.local(), set()

    def count(i):
        threads.add(threading.get_ident())
        local.calls = getattr(local, "calls", 0) + 1
        return local.calls

    made = _core.prefetch(count, 50, 1)
    assert [made.get() for _ in range(50)] == list(range(1, 51))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    made.close()


@pytest.fixture
def kept_lock():
    """A thread has the interpreter's lock until it gives it away."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("kept_lock")
def test_the_lock_is_free_while_the_thread_sleeps_and_while_rows_are_made():
    made = squares(100, 2)
    rows = iter(Loader(BIG.repeat(10, axis=0), batch_size=32, shuffle=False))
    for i in range(30):
        assert made.get() == i * i
        next(rows)
    made.close()


@linux
def test_threads_end_with_their_iterators():
    many = BIG.repeat(10, axis=0)
    list(Loader(many))  # the pool starts its own
    before = threads_of_this_process()
    for x in (many, Lazy(many)):
        begun = [iter(Loader(x, batch_size=32)) for _ in range(3)]
        for batches in begun:
            next(batches)
        assert len(threads_of_this_process() - before) == 3
        del batches
        begun[0].close()
        del begun
        assert are_soon_all(before)


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_it_was_made_of_is_let_go(ahead):
    def function(i):
        return Lazy([i])

    alive = [weakref.ref(function)]
    made = _core.prefetch(function, 9, ahead)
    alive.append(weakref.ref(made.get()))
    alive.append(weakref.ref(rows := BIG.copy()))
    batches = iter(Loader(rows, batch_size=32, prefetch=ahead))
    next(batches)
    made.close()
    batches.close()
    del function, made, rows, batches
    gc.collect()
    assert [one() for one in alive] == [None] * 3


def test_it_may_close_itself():
    """As the garbage collector may, which runs on any thread."""
    made = _core.prefetch(lambda i: made.close() or i, 5, 1)
    with pytest.raises(_core.PrefetchError, match=r"not after close\(\)$"):
        assert [made.get(), made.get()] == [0, None]


@pytest.mark.usefixtures("kept_lock")
def test_waiting_is_counted_and_being_ready_is_not():
    last = threading.Event()
    made = _core.prefetch(lambda i: last.set() if i == 2 else i, 3, 1)
    assert made.get() == 0  # which the thread begins when this gives it the lock
    waited = made.waited
    assert waited > 0
    last.wait()  # while 2 is made, 1 is ready
    assert made.get() == 1
    assert made.waited == waited
    made.close()


# ---- the process --------------------------------------------------------------------------------
PRELUDE = f"""
import contextlib, os, signal, sys, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
import numpy as np
import fastnn as fn
from fastnn import _core
from fastnn.data import Loader
BIG = np.ones((960, 4000), np.float32)
"""


@pytest.mark.parametrize(
    "code",
    [
        "batches = iter(Loader(BIG)); next(batches)",
        "made = _core.prefetch(lambda i: time.sleep(0.01) or i, 10**6, 2); made.get()",
        "made = _core.prefetch(lambda i: i, 10**6, 2); made.get(); sys.exit(0)",
        "import threading; made = _core.prefetch(lambda i: [i], 10**6, 9)\n"
        "def take():\n"
        "    with contextlib.suppress(_core.PrefetchError):\n"
        "        while True: made.get()\n"
        "threading.Thread(target=take, daemon=True).start()",
    ],
)
def test_the_interpreter_ends_while_batches_are_made(code):
    result = run_code(PRELUDE + code)
    assert (result.returncode, result.stderr) == (0, "")


@linux
def test_a_forked_child_is_told_and_makes_its_own():
    code = """
fn.set_num_threads(2)
loader = Loader(BIG, batch_size=32, shuffle=False)
begun = [iter(loader), iter(Loader(list(BIG), batch_size=32, shuffle=False))]
for batches in begun:
    next(batches)
for _ in range(5):
    child = os.fork()
    if child == 0:
        told = []
        for batches in begun:
            try:
                next(batches)
            except _core.PrefetchError as error:
                told.append(str(error))
        text = ("prefetch: expected the process that began, got one that fork() made: threads stay "
                "behind; begin the epoch again in the child")
        fresh = sum(len(x) for x, _ in Loader(BIG, batch_size=32))
        sys.exit(0 if told == [text] * 2 and fresh == 960 else 1)
    assert os.waitpid(child, 0)[1] == 0
assert [len(list(batches)) for batches in begun] == [29, 29]
"""
    result = run_code(PRELUDE + code, PYTHONWARNINGS="ignore")
    assert (result.returncode, result.stderr) == (0, "")


def test_an_interrupt_ends_the_wait():
    code = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
def interrupted(call):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted")
go = []
def wait(i):
    while not go:
        time.sleep(0.01)
made = _core.prefetch(wait, 1, 1)
interrupted(made.get)
interrupted(made.close)
go.append(1)
made.close()
"""
    result = run_code(PRELUDE + code)
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "interrupted\n" * 2)


# ---- page-locked memory -------------------------------------------------------------------------


@pytest.mark.skipif(fn.cuda.is_available(), reason="there is CUDA")
def test_pin_memory_without_cuda_warns_and_changes_nothing():
    message = f"Loader: pin_memory=True has no effect without CUDA: {fn.cuda.why_unavailable()}"
    with pytest.warns(RuntimeWarning, match=f"^{re.escape(message)}$"):
        loader = Loader(BIG, LABELS.repeat(2)[:96], 32, seed=1, pin_memory=True)
    same(loader, Loader(BIG, LABELS.repeat(2)[:96], 32, seed=1))
    assert _core.pinned_memory_stats()["system_allocations"] == 0
    with pytest.raises(fn.CudaError, match=r"^device 'cuda' is not available: "):
        _core.pin(BIG)
