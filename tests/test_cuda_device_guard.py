"""Two CUDA devices: what mixes them is refused, the thread's device is left as it was, and none is
touched that nobody asked for. On two GPUs, or emulated, FASTNN_EMULATOR_DEVICES=2.
"""

import ctypes
import os
import re
import subprocess
import sys
import threading

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import DEVICES, data_error, emulated, host, two_devices
from fastnn import F, nn
from fastnn.data import Loader
from fastnn.testing.harness import to_tensors
from fastnn.testing.ops import OPS

pytestmark = [pytest.mark.gpu, two_devices]
X = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)


def emulator():
    return ctypes.CDLL(os.environ["FASTNN_CUDA_LIBRARY"])


# ---- what is refused -----------------------------------------------------------------------------


MIXED = (
    r"^\w+: expected \w.* on (cuda:\d)( like \w+)?, got (?!\1)cuda:\d; move it with .to\('\1'\)$"
)


@pytest.mark.parametrize("op", [op for op in OPS if op.cuda is None], ids=lambda op: op.short)
def test_arguments_on_two_devices_are_refused_by_name(op):
    sample = op.sample(*op.cases[0], "float32")
    inputs = to_tensors(op, sample.inputs, "float32")
    inputs = [x if x is None else x.detach().to("cuda:0") for x in inputs]
    present = [i for i, x in enumerate(inputs) if x is not None]
    for i in present if len(present) > 1 else ():
        moved = list(inputs)
        moved[i] = inputs[i].to("cuda:1")
        with pytest.raises(ValueError, match=MIXED):
            op.call(*moved, **sample.params)


def test_messages_of_mixed_devices():
    x, w = fn.ones(4, 3, device="cuda:0"), fn.ones(2, 3, device="cuda:1")
    for call, text in (
        (lambda: F.linear(x, w), "linear: expected weight on cuda:0, got cuda:1; move it with "
         ".to('cuda:0')"),
        (lambda: x + x.to("cuda:1"), "add: expected other on cuda:0 like input, got cuda:1; move "
         "it with .to('cuda:0')"),
        (lambda: x * x.to("cpu"), "mul: expected other on cuda:0 like input, got cpu; move it with "
         ".to('cuda:0')"),
        (lambda: F.cross_entropy(x, fn.tensor([0, 1, 2, 0], device="cuda:1")),
         "cross_entropy: expected target on cuda:0, got cuda:1; move it with .to('cuda:0')"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            call()


def test_parameters_on_two_devices():
    nets = [nn.Linear(3, 2).to(device) for device in DEVICES]
    optimizer = fn.optim.SGD([p for net in nets for p in net.parameters()], lr=0.1)
    for net, device in zip(nets, DEVICES, strict=True):
        net(fn.ones(1, 3, device=device)).sum().backward()
    text = r"^sgd: expected parameter 2 on cuda:0, got cuda:1; move it with .to\('cuda:0'\)$"
    before = [host(p) for p in nets[0].parameters()]
    with pytest.raises(ValueError, match=text):
        optimizer.step()
    for p, value in zip(nets[0].parameters(), before, strict=True):
        np.testing.assert_array_equal(host(p), value)


def test_a_recorded_step_is_of_one_device():
    a, b = fn.ones(3, device="cuda:0"), fn.ones(3, device="cuda:1")
    text = (
        "capture: expected one CUDA device in a step, got cuda:0 and cuda:1; record a function for "
        "each"
    )
    step = fn.capture(lambda: (F.relu(a), F.relu(b)))
    with pytest.raises(fn.CaptureError, match=f"^{re.escape(text)}$"):
        step()
    steps = [fn.capture(lambda x, v=v: F.relu(v * x)) for v in (a, b)]
    for _ in range(3):
        results = [step(v * 2) for step, v in zip(steps, (a, b), strict=True)]
        assert [r.device for r in results] == list(DEVICES)
        np.testing.assert_array_equal(host(results[0]), host(results[1]))


# ---- the thread's device -------------------------------------------------------------------------


def every_call(device):
    """At least one call of each kind."""
    x = fn.tensor(X, device=device, requires_grad=True)
    net = nn.Sequential(nn.Linear(20, 4), nn.Dropout(0.1)).to(device)
    F.cross_entropy(net(x), fn.tensor(np.arange(33) % 4, device=device)).backward()
    fn.optim.Adam(net.parameters()).step()
    step = fn.capture(lambda v: F.relu(v))
    for _ in range(3):
        step(x.detach())
    for batch, _ in Loader(X, None, 8, pin_memory=True):
        fn.from_numpy(batch).to(device, non_blocking=True)
    x.to("cuda:0" if device == "cuda:1" else "cuda:1").to("cpu")
    fn.cuda.info(device), fn.cuda.device_description(device)
    bad = fn.tensor([9] * 33, device=device)
    message = data_error(lambda: F.cross_entropy(net(x), bad), device)
    assert "expected 0 <= target < 4, got 9" in message
    with pytest.raises(MemoryError):
        fn.zeros(1 << 43, device=device)


@emulated
@pytest.mark.parametrize("before", [-1, 0, 1])
@pytest.mark.parametrize("device", DEVICES)
def test_the_current_device_is_left_as_it_was(device, before):
    """That of the CUDA runtime, which another library set on this thread; -1: nobody did."""
    seen = []

    def work():
        if before >= 0:
            emulator().fastnn_emulator_set_device(before)
        every_call(device)
        seen.append(emulator().fastnn_emulator_current_device())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_threads_with_a_device_each():
    """At the same time, and with the results that each has alone."""
    results = {}

    def work(device):
        with fn.cuda.device(device):
            net = nn.Linear(20, 4).to("cuda")
            for p in net.parameters():
                p.copy_(fn.ones(*p.shape))
            x = fn.tensor(X, device="cuda")
            for _ in range(30):
                net(x).sum().backward()
            results[device] = [host(p.grad) for p in net.parameters()]

    threads = [threading.Thread(target=work, args=(device,)) for device in DEVICES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(*(results[d] for d in DEVICES), strict=True):
        np.testing.assert_array_equal(a, b)


def in_a_process(work):
    return subprocess.run(
        [sys.executable, "-c", work],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "0"},
    )


@emulated
def test_no_context_where_nobody_asked_for_one():
    work = (
        "import ctypes, os, fastnn as fn\n"
        "from fastnn import nn\n"
        "library = ctypes.CDLL(os.environ['FASTNN_CUDA_LIBRARY'])\n"
        "assert fn.cuda.device_count() == 2 and fn.cuda.device_description(0)\n"
        "assert library.fastnn_emulator_contexts() == 0\n"
        "net = nn.Linear(3, 2).to('cuda:1')\n"
        "trainer = fn.Trainer(net, nn.MSELoss(), fn.optim.SGD(net.parameters()))\n"
        "trainer.fit(fn.ones(8, 3).numpy(), fn.ones(8, 2).numpy(), epochs=2, verbose=0)\n"
        "fn.from_numpy(fn.ones(3).numpy()).to('cuda:1', non_blocking=True)\n"
        "print(library.fastnn_emulator_contexts(), fn.cuda.device_description(1))\n"
    )
    done = in_a_process(work)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 fastnn emulator")


@emulated
def test_memory_of_a_device_is_touched_by_its_own_work_only():
    """The emulator's part, on which the others stand."""
    work = (
        "import ctypes, fastnn as fn\n"
        "from fastnn import _core\n"
        "x = fn.ones(4, device='cuda:{}')\n"
        "fn.ones(4, device='cuda:1').to('cpu')\n"
        "print(ctypes.c_float.from_address(_core.data_pointer(x)).value)\n"
    )
    assert in_a_process(work.format(1)).stdout == "1.0\n"  # it was the last that worked
    done = in_a_process(work.format(0))
    text = "emulator: memory of device 0 was touched by work that is not its own\n"
    assert done.returncode < 0
    assert done.stderr.startswith(text)
