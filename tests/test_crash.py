"""What a crash or a full disk leaves: the old checkpoint or the new one, at every system call.

A child is traced with ptrace, which needs no tool: it stops before and after each system call of a
save, and is killed there. FASTNN_KILL_CYCLES repeats that, with other weights and sizes each time.
"""

import ctypes
import errno
import os
import platform
import signal
import sys

import fastnn as fn
import numpy as np
import pytest
from checkpoint_helpers import X, Y, make
from fastnn.train.files import read_tensors, write_atomically

TRACEME, SYSCALL, SETOPTIONS, SYSCALL_INFO = 0, 24, 0x4200, 0x420E
SYSGOOD, EXITKILL = 1, 0x100000
# The system calls that rename: rename, renameat, renameat2.
RENAMES = {"x86_64": (82, 264, 316), "aarch64": (38, 276)}.get(platform.machine(), ())
CYCLES = int(os.environ.get("FASTNN_KILL_CYCLES", "1"))

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="ptrace is Linux's"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


class CallInfo(ctypes.Structure):
    """ptrace_syscall_info: op is 1 at the entry of a call, 2 at its exit."""

    _fields_ = [
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32),
        ("pointers", ctypes.c_uint64 * 2), ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 7),
    ]  # fmt: skip


def ptrace(request, pid, data=0, address=0):
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address)]
    if libc.ptrace(*arguments, ctypes.c_void_p(data)) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def run_killed(work, stop):
    """Run work in a child killed at its stop-th entry or exit of a system call.

    Whether it had renamed a file by then; None if it ended before. How many calls come before is
    not the same each time: it depends on where the heap lies.
    """
    pid = os.fork()
    if pid == 0:
        try:
            ptrace(TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    ptrace(SETOPTIONS, pid, SYSGOOD | EXITKILL)
    info, renames, renamed = CallInfo(), False, False
    for _ in range(stop):
        ptrace(SYSCALL, pid)
        if not os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
            return None
        ptrace(SYSCALL_INFO, pid, ctypes.addressof(info), ctypes.sizeof(info))
        if info.op == 1:
            renames = info.number in RENAMES
        elif info.op == 2:
            renamed = renamed or renames
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return renamed


def content(path):
    with open(path, "rb") as file:
        return file.read()


def may_trace():
    try:
        return bool(RENAMES) and run_killed(lambda: None, 1) is not None
    except OSError:
        return False


@pytest.mark.skipif(not may_trace(), reason="no permission to trace a child")
@pytest.mark.parametrize("cycle", range(CYCLES))
def test_killed_at_each_system_call_of_a_save(tmp_path, cycle):
    path = str(tmp_path / "last.safetensors")
    trainer = make(hidden=8 + 8 * cycle)
    trainer.fit(X, Y, seed=cycle, verbose=0)
    trainer.save(path)
    old = content(path)
    trainer.fit(X, Y, seed=cycle, epochs=2, initial_epoch=None, verbose=0)
    trainer.save(str(tmp_path / "new"))
    new = content(tmp_path / "new")
    assert old != new
    found = []
    stop = 1
    while (renamed := run_killed(lambda: trainer.save(path), stop)) is not None:
        assert content(path) == (new if renamed else old), stop
        found.append(renamed)
        read_tensors(path)  # which verifies the checksums
        write_atomically(path, old)
        stop += 1
    assert set(found) == {False, True}
    assert stop > 20
    make(hidden=8 + 8 * cycle).load(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_an_error_of_each_call_keeps_the_old_file_and_says_so(tmp_path, monkeypatch, call, code):
    path = tmp_path / "last.safetensors"
    trainer = make()
    trainer.save(str(path))
    old = path.read_bytes()
    trainer.fit(X, Y, verbose=0)
    original = getattr(os, call)

    def fail(*args, **kwargs):
        if call == "close":
            original(*args)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(fn.train.StorageError, match=r".") as error:
            trainer.save(str(path))
    size = str(error.value).split()[4]
    assert str(error.value) == (
        f"{path}: expected to write {size} bytes, got {errno.errorcode[code]}, "
        f"{os.strerror(code)}; the file is as it was"
    )
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["last.safetensors"]


def test_writes_that_are_short_are_continued(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, data[:7]))
    write_atomically(str(tmp_path / "file"), bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_folder_that_cannot_be_synced_has_the_new_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    original, calls = os.fsync, []

    def second_fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(fn.train.StorageError, match=r".") as error:
        write_atomically(str(path), b"new")
    assert str(error.value) == (
        f"{path}: expected to write 3 bytes, got EIO, {os.strerror(errno.EIO)}; the file is the "
        "new one, but may not outlast a power failure"
    )
    assert path.read_bytes() == b"new"


# ---- resuming at every step --------------------


def make_all(capture=True):
    """Everything that a step may depend on."""
    fn.manual_seed(1)
    model = fn.nn.Sequential(
        fn.nn.Linear(4, 16), fn.nn.BatchNorm1d(16), fn.nn.ReLU(), fn.nn.Dropout(0.3),
        fn.nn.Linear(16, 3),
    )  # fmt: skip
    optimizer = fn.optim.Adam(model.parameters(), lr=0.01)
    schedule = fn.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=60)
    loss = fn.train.Objective(
        fn.nn.CrossEntropyLoss(), l2=fn.train.WeightPenalty(fn.F.l2_penalty, 1e-3)
    )
    return fn.Trainer(model, loss, optimizer, scheduler=schedule, scheduler_interval="step")


class StopAfter(fn.train.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, batch, logs):
        if self.trainer.optimizer.step_count == self.step:
            raise KeyboardInterrupt


def all_bits(trainer, ema):
    state = [v.numpy().tobytes() for v in trainer.model.state_dict().values()]
    averages = [np.asarray(v).tobytes() for v in ema.state_dict().values()]
    return state, averages, str(trainer.optimizer.state_dict()), fn.random.get_state()


def test_resuming_at_every_step_gives_the_same_bits_on_other_threads(tmp_path):
    """60 steps, of 12 batches in 5 epochs; stopped after each, and continued on 1 to 3 threads."""
    options = {"batch_size": 6, "epochs": 5, "seed": 3, "verbose": 0, "sample_weight": None}
    path = str(tmp_path / "last.safetensors")
    whole, ema = make_all(), fn.train.EMA(0.9)
    history = whole.fit(X, Y, callbacks=[ema], **options).history
    expected = all_bits(whole, ema)
    assert whole.optimizer.step_count == 60
    for k in range(1, 60):
        fn.set_num_threads(1 + k % 3)
        first = make_all()
        with pytest.raises(KeyboardInterrupt):
            first.fit(X, Y, callbacks=[fn.train.EMA(0.9), StopAfter(k)], **options)
        first.save(path)
        fn.set_num_threads(1 + (k + 1) % 3)
        rest, ema = make_all(), fn.train.EMA(0.9)
        rest.load(path)
        again = rest.fit(X, Y, callbacks=[ema], **options, initial_epoch=None).history
        assert all_bits(rest, ema) == expected, k
        for name in ("loss", "l2", "accuracy", "lr"):
            assert again.get(name, []) == history[name][5 - len(again.get(name, [])) :], (k, name)
