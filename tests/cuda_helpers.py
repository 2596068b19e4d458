"""What tests of the paths on CUDA share: the emulated library, and work in a process of its own."""

import json
import os
import subprocess
import sys

import fastnn as fn
import pytest

emulated = pytest.mark.skipif(
    not (fn.cuda.is_available() and "emulator" in fn.cuda.device_description()),
    reason="of the emulated library",
)


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
