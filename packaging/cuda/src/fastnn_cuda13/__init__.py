"""The CUDA kernels of fastnn, for drivers of CUDA 13: one library, loaded by fastnn itself."""

from pathlib import Path

__all__ = ["library_path"]


def library_path() -> str:
    """The full path of libfastnn_cuda.so."""
    return str(Path(__file__).parent / "libfastnn_cuda.so")
