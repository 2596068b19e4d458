"""What tests of the paths on CUDA share: the emulated library, and work in a process of its own."""

import json
import os
import subprocess
import sys

import fastnn as fn
import numpy as np
import pytest

available = fn.cuda.is_available()
is_emulated = available and "emulator" in fn.cuda.device_description()
needs_cuda = pytest.mark.skipif(not available, reason=f"no CUDA: {fn.cuda.why_unavailable()}")
emulated = pytest.mark.skipif(not is_emulated, reason="of the emulated library")
two_devices = pytest.mark.skipif(
    fn.cuda.device_count() < 2,
    reason="fewer than two CUDA devices; the emulator has FASTNN_EMULATOR_DEVICES=2 of them",
)
DEVICES = ("cuda:0", "cuda:1")


def on_cuda(x):
    if x is None:
        return None
    moved = x.detach().to("cuda")
    moved.requires_grad = x.requires_grad
    return moved


def host(x):
    """The numbers of a Tensor, wherever it is."""
    return np.array(x.detach().to("cpu"))


def data_error(work, device="cuda"):
    """What is raised about the data of the work when the device has come to its end."""

    def to_the_end():
        work()
        fn.cuda.synchronize(device)

    with pytest.raises(ValueError, match=": expected ") as caught:
        to_the_end()
    return str(caught.value)


def info(work, *arguments, **environment):
    """What fn.cuda.info() says after the work, which prints it, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", work, *arguments],
        env={**os.environ, "FASTNN_CUBLASLT": "off", **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)
