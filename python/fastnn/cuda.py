"""CUDA: whether there is a device, and why not; which one, where there are several; and its paths.

``"cuda"`` is the current device of the thread, index 0 unless :func:`set_device` or :func:`device`
says otherwise; ``"cuda:1"`` is a device by its index, as in ``Tensor.device``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fastnn import _core
from fastnn._devices import cuda_index
from fastnn.streams import Stream, current_stream, stream, synchronize

__all__ = [
    "MLP_PATHS",
    "PRODUCT_PATHS",
    "RECURRENT_PATHS",
    "Stream",
    "current_device",
    "current_stream",
    "device",
    "device_count",
    "device_description",
    "info",
    "is_available",
    "set_device",
    "set_mlp_path",
    "set_product_path",
    "set_recurrent_path",
    "stream",
    "synchronize",
    "why_unavailable",
]

PRODUCT_PATHS = ("auto", "cublaslt", "wgmma", "tiles", "3xtf32")
"""Who may make products of matrices; see :func:`set_product_path`."""
MLP_PATHS = ("auto", "fused", "ops")
"""What may make the step of a small network; see :func:`set_mlp_path`."""


@dataclasses.dataclass
class _MlpPath:
    """Who makes the steps of small networks (train/mlp.py), and what was found out about them."""

    path: str = "auto"
    steps: int = 0  # by the fused kernel, launched or recorded
    problems: dict[Any, str] = dataclasses.field(default_factory=dict)  # by class, of those checked

    def is_asked_for(self) -> bool:
        """Whether the fused kernel may be tried. It was measured nowhere yet: not unasked."""
        return self.path == "fused"

    def is_known(self, key: Any) -> bool:
        return key in self.problems

    def note(self, key: Any, name: str, problem: str) -> None:
        self.problems[key] = f"{name}: {problem}" if problem else ""

    def serves(self, key: Any) -> bool:
        return not self.problems[key]


mlp = _MlpPath()

RECURRENT_PATHS = ("auto", "steps", "clusters")
"""How recurrent layers may run; see :func:`set_recurrent_path`."""


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


def device_count() -> int:
    """How many CUDA devices there are: 0 where CUDA is not available.

    Example:
        >>> import fastnn as fn
        >>> (fn.cuda.device_count() > 0) == fn.cuda.is_available()
        True
    """
    return int(_core.cuda_device_count())


def current_device() -> int:
    """The index of the device that ``"cuda"`` means on this thread.

    It is fastnn's own: the current device of other libraries is neither asked nor changed.

    Example:
        >>> import fastnn as fn
        >>> fn.cuda.current_device()
        0
    """
    return int(_core.current_cuda())


def set_device(device: int | str) -> None:
    """Choose the device that ``"cuda"`` means on this thread from now on.

    Args:
        device: An index, or a name such as ``"cuda:1"``.

    Raises:
        ValueError: If there is no such device; the message says how many there are.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.device_count() > 1:
        ...     fn.cuda.set_device(1)
        ...     assert fn.zeros(3, device="cuda").device == "cuda:1"
        ...     fn.cuda.set_device(0)
    """
    _core.set_current_cuda(cuda_index(device))


def device(device: int | str | None) -> AbstractContextManager[None]:
    """A context in which ``"cuda"`` is another device, on this thread.

    Args:
        device: An index, or a name such as ``"cuda:1"``; None is the current one.

    Raises:
        ValueError: If there is no such device; the message says how many there are.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.device_count() > 1:
        ...     with fn.cuda.device(1):
        ...         x = fn.zeros(3, device="cuda")
        ...     assert x.device == "cuda:1"
    """
    return _with_current(cuda_index(device))


@contextmanager
def _with_current(index: int) -> Iterator[None]:
    before = current_device()
    _core.set_current_cuda(index)
    try:
        yield
    finally:
        _core.set_current_cuda(before)


def device_description(device: int | str | None = None) -> str:
    """Name and compute capability of a device, and how the library was built.

    Args:
        device: An index, or a name such as ``"cuda:1"``; default: the current one.

    Raises:
        ValueError: If there is no such device; the message says how many there are.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> names = [fn.cuda.device_description(i) for i in range(fn.cuda.device_count())]
    """
    return str(_core.cuda_description(cuda_index(device)))


def info(device: int | str | None = None) -> dict[str, Any]:
    """What serves CUDA here: the device, who makes products of matrices, how recurrent layers run.

    What was checked and refused is that of the device; the numbers of products and of steps are the
    process's.

    Products are cuBLASLt's where libcublasLt is found (``FASTNN_CUBLASLT`` names one, or is
    ``off``; else torch's, that of the wheel nvidia-cublas, or the loader's), and of fastnn's own
    tiles elsewhere; of its wgmma kernels (devices of compute capability 9.0) where they are set
    (:func:`set_product_path`) or were measured to be the fastest. Each class of products (dtype,
    transposes, all that follows the sums) is compared with the own tiles on its first use; one that
    is wrong, or fails, goes on to the next from then on. Sequences in clusters of thread blocks are
    made where they are set (:func:`set_recurrent_path`), and checked likewise.

    Args:
        device: An index, or a name such as ``"cuda:1"``; default: the current one.

    Returns:
        ``device``, what it is; ``cublaslt``, its path, or None; ``cublaslt_version``;
        ``cublaslt_reason``, why there is none; ``wgmma_reason``, why there are no wgmma kernels, or
        an empty text; ``products_by_cublaslt``, ``products_by_wgmma`` and
        ``products_by_own_tiles``, launched or recorded so far; ``clusters_reason``, why there are
        no clusters, or an empty text; ``sequences_by_clusters``, passes of recurrent layers made
        so; ``refused``, a line for each class that cuBLASLt does not make, or ("wgmma: ",
        "clusters: ") wgmma kernels or clusters do not, with the reason; ``mlp_steps_fused``, the
        steps of small networks that one kernel made (:func:`set_mlp_path`), launched or recorded so
        far, and ``mlp_refused``, a line for each class of networks that it made wrong.

    Raises:
        ValueError: If there is no such device; the message says how many there are.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.is_available():
        ...     assert fn.cuda.info()["device"] == fn.cuda.device_description()
    """
    index = cuda_index(device)
    path, reason, version, no_wgmma, by_library, by_wgmma, by_own_tiles, refused = (
        _core.cuda_blas_report(index)
    )
    no_clusters, by_clusters, refused_sequences = _core.cuda_sequence_report(index)
    return {
        "device": device_description(index),
        "cublaslt": path or None,
        "cublaslt_version": f"{version // 10000}.{version // 100 % 100}.{version % 100}"
        if path
        else None,
        "cublaslt_reason": reason,
        "wgmma_reason": no_wgmma,
        "products_by_cublaslt": by_library,
        "products_by_wgmma": by_wgmma,
        "products_by_own_tiles": by_own_tiles,
        "clusters_reason": no_clusters,
        "sequences_by_clusters": by_clusters,
        "refused": refused.splitlines() + refused_sequences.splitlines(),
        "mlp_steps_fused": mlp.steps,
        "mlp_refused": sorted(filter(None, mlp.problems.values())),
    }


def set_product_path(path: str) -> None:
    """Choose who makes products of matrices from now on, to measure or to compare them.

    Args:
        path: ``"auto"``: the fastest that was measured, else cuBLASLt; ``"cublaslt"`` or
            ``"wgmma"``: these alone; ``"tiles"``: fastnn's own tiles; ``"3xtf32"``: wgmma kernels,
            and float32 at precision "highest" as three products of TF32, which keep 22 bits of each
            factor (and make NaN of infinities). Own tiles make what the chosen one cannot. What is
            recorded already stays as it is.

    Raises:
        ValueError: If there is no such path.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.is_available():
        ...     fn.cuda.set_product_path("auto")
    """
    _core.set_cuda_blas_path(_index("set_product_path", PRODUCT_PATHS, path))


def set_mlp_path(path: str) -> None:
    """Choose who makes the training step of a small network from now on, forward to gradients.

    One kernel can do it for a Sequential of 2 to 7 Linear layers and activations in float32, of at
    most 64 features, 128 units and 32 outputs, under cross-entropy of labels or squared error: in a
    Trainer, or by :func:`fastnn.train.forward_backward`. Each class of networks (sizes,
    activations, loss) is compared with the ops, and with itself, on its first use; one that is
    wrong, or fails, is made by the ops from then on (:func:`info` tells).

    Args:
        path: ``"auto"``: the fused kernel where it was measured to be faster, which is nowhere
            yet; ``"fused"``: the fused kernel where there is one; ``"ops"``: one kernel for each
            op. What is recorded already stays as it is.

    Raises:
        ValueError: If there is no such path.

    Example:
        >>> import fastnn as fn
        >>> fn.cuda.set_mlp_path("auto")
    """
    mlp.path = MLP_PATHS[_index("set_mlp_path", MLP_PATHS, path)]


def set_recurrent_path(path: str) -> None:
    """Choose how recurrent layers run from now on, to measure or to compare the ways.

    Args:
        path: ``"steps"``: a product with the state and a kernel for the cell, step by step;
            ``"clusters"``: all steps of a pass as one kernel of thread-block clusters, which keep
            the weights of the state in shared memory, in float32, or as bfloat16 where float32
            products are ``"medium"`` (:func:`fastnn.set_float32_matmul_precision`), multiplied by
            16 bits of the state on tensor cores; ``"auto"``: the faster one where that was
            measured, else ``"steps"``. Steps are also what clusters cannot make: layers that do not
            fit them, ``LayerNormLSTM``, and a GRU whose reset gate is applied to the state. What is
            recorded already stays as it is.

    Raises:
        ValueError: If there is no such path.
        CudaError: If CUDA is not available; the message says what is missing.

    Example:
        >>> import fastnn as fn
        >>> if fn.cuda.is_available():
        ...     fn.cuda.set_recurrent_path("auto")
    """
    _core.set_cuda_sequence_path(_index("set_recurrent_path", RECURRENT_PATHS, path))


def _index(name: str, paths: tuple[str, ...], path: str) -> int:
    if path not in paths:
        raise ValueError(f"cuda.{name}: expected one of {', '.join(paths)}, got {path!r}")
    return paths.index(path)


def _find_blas() -> str:
    """Where the wheels nvidia-cublas put libcublasLt: folders, colons between; imports nothing."""
    spec = importlib.util.find_spec("nvidia")
    places = (spec.submodule_search_locations or []) if spec else []
    inside = [
        os.path.join(p, *part) for p in places for part in (("cu13", "lib"), ("cublas", "lib"))
    ]
    return ":".join(folder for folder in inside if os.path.isdir(folder))


def _find_library() -> str:
    """Where the wheel fastnn-cuda13 put libfastnn_cuda.so, or ''; looks, and imports nothing."""
    spec = importlib.util.find_spec("fastnn_cuda13")
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = os.path.join(folder, "libfastnn_cuda.so")
        if os.path.exists(path):
            return path
    return ""


_core.set_cuda_library_path(_find_library())
_core.set_cuda_blas_folders(_find_blas())
