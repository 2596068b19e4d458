"""What fastnn runs on: instruction set, threads, CUDA, memory; and who decided."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import numpy as np

from fastnn import _core, cuda
from fastnn._checks import check_whole
from fastnn._version import __version__

__all__ = [
    "get_float32_matmul_precision",
    "get_num_threads",
    "info",
    "set_float32_matmul_precision",
    "set_num_threads",
]


def get_num_threads() -> int:
    """How many threads large work is split over.

    Example:
        >>> import fastnn as fn
        >>> fn.get_num_threads() >= 1
        True
    """
    return int(_core.num_threads())


def set_num_threads(threads: int) -> None:
    """Use at most this many threads. Results do not depend on it.

    Args:
        threads: At least 1.

    Raises:
        ValueError: If threads is out of range.

    Example:
        >>> import fastnn as fn
        >>> fn.set_num_threads(fn.get_num_threads())
    """
    check_whole("set_num_threads", threads=threads)
    _core.set_num_threads(threads)


def get_float32_matmul_precision() -> str:
    """How exact products of float32 matrices are: what was set, or ``"highest"``.

    Example:
        >>> import fastnn as fn
        >>> fn.get_float32_matmul_precision()
        'highest'
    """
    return str(_core.get_float32_matmul_precision())


def set_float32_matmul_precision(precision: str) -> None:
    """Let products of float32 matrices be less exact where that is faster.

    It is a matter of the factors alone: results and sums are float32 in any case, and the bits do
    not depend on the number of threads. Matrices of other dtypes, convolutions, small products and
    the steps of recurrent layers (but not their products with all inputs) stay as they are.
    Captured functions and fits record anew after a change.

    - ``"highest"``, the default: float32.
    - ``"high"``: on CUDA TF32, where cuBLASLt is found; on the CPU float32, nothing else is faster.
    - ``"medium"``: bfloat16. On the CPU where the processor multiplies it (AMX, or AVX512-BF16 on
      AMD: levels ``v4amx`` and ``v4bf16``), on CUDA where cuBLASLt is found; float32 elsewhere.

    Args:
        precision: ``"highest"``, ``"high"`` or ``"medium"``, as in torch.

    Raises:
        ValueError: If it is another.

    Example:
        >>> import fastnn as fn
        >>> fn.set_float32_matmul_precision("medium")
        >>> fn.matmul(fn.ones(64, 64), fn.ones(64, 64)).numpy()[0, 0]
        np.float32(64.0)
        >>> fn.set_float32_matmul_precision("highest")
    """
    _core.set_float32_matmul_precision(precision)


def info() -> dict[str, Any]:
    """Version, instruction set, threads and CUDA, each with the reason for it.

    Example:
        >>> from fastnn.system import info
        >>> sorted(info())[:3]
        ['cpu', 'cpu_reason', 'cuda']
    """
    available = cuda.is_available()
    return {
        "fastnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "cpu": _core.cpu_level(),
        "cpu_reason": _core.cpu_level_reason(),
        "threads": _core.num_threads(),
        "threads_reason": _core.num_threads_reason(),
        "processors": os.cpu_count(),
        "cuda": available,
        "cuda_reason": cuda.device_description() if available else cuda.why_unavailable(),
    }


def _register_with_threadpoolctl() -> None:
    """Let threadpoolctl (and with it joblib and scikit-learn) limit our threads."""
    import threadpoolctl  # imported already, by whoever uses it

    class FastnnController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "fastnn"
        internal_api = "fastnn"
        filename_prefixes = ("_core.",)
        check_symbols = ("fastnn_get_num_threads",)

        def get_num_threads(self) -> int:
            return int(self.dynlib.fastnn_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.fastnn_set_num_threads(num_threads)

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            self.cpu_level = _core.cpu_level()

    threadpoolctl.register(FastnnController)


if "threadpoolctl" in sys.modules:
    _register_with_threadpoolctl()
