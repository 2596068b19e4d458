"""The CUDA device: whether there is one, and why not."""

from __future__ import annotations

import importlib.util
import os

from fastnn import _core

__all__ = ["device_description", "is_available", "why_unavailable"]


def is_available() -> bool:
    """Whether ``device="cuda"`` works here.

    Example:
        >>> import fastnn as fn
        >>> isinstance(fn.cuda.is_available(), bool)
        True
    """
    return bool(_core.cuda_is_available())


def why_unavailable() -> str:
    """What is missing: library, driver or device. Empty if CUDA is available.

    Example:
        >>> import fastnn as fn
        >>> bool(fn.cuda.why_unavailable()) != fn.cuda.is_available()
        True
    """
    return str(_core.cuda_reason())


def device_description() -> str:
    """Name and compute capability of the device, and how the library was built.

    Raises:
        CudaError: If CUDA is not available; the message says what is missing.
    """
    return str(_core.cuda_description())


def _find_library() -> str:
    """Where the wheel fastnn-cuda13 put libfastnn_cuda.so, or ''; looks, and imports nothing."""
    spec = importlib.util.find_spec("fastnn_cuda13")
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = os.path.join(folder, "libfastnn_cuda.so")
        if os.path.exists(path):
            return path
    return ""


_core.set_cuda_library_path(_find_library())
