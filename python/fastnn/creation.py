"""Tensors of shared memory, zeros and ones. What copies and converts is fastnn.tensor()."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _convert, _core

if TYPE_CHECKING:
    from fastnn.tensor import Tensor

__all__ = ["from_dlpack", "from_numpy", "ones", "zeros"]


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A Tensor that shares the memory of a contiguous float32, int64 or uint8 array.

    Contiguous is also an array (n, c, h, w) whose channels are last in memory.

    The array must not change while the tape needs it.

    Raises:
        TypeError: If the array would have to be converted; use :func:`tensor` for a copy.

    Example:
        >>> import fastnn as fn
        >>> a = np.zeros(2, np.float32)
        >>> fn.from_numpy(a).copy_(np.ones(2, np.float32)); a
        Tensor([1., 1.], dtype=float32)
        array([1., 1.], dtype=float32)
    """
    if not (
        isinstance(array, np.ndarray)
        and array.dtype.name in ("float32", "int64", "uint8")
        and array.dtype.isnative
        and (array.flags.c_contiguous or _is_channels_last(array))
        and array.flags.aligned
    ):
        got = (
            f"dtype {array.dtype} with strides {array.strides}"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise TypeError(
            "from_numpy: expected a contiguous float32, int64 or uint8 array, got "
            f"{got}; fastnn.tensor() copies and converts"
        )
    return _core.share(array)


def from_dlpack(array: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array: torch, CuPy, JAX, NumPy.

    On CUDA this thread's stream waits for the other library's (:func:`fastnn.cuda.stream`), and
    the array is kept until the last use that was launched is over. It must not change while the
    tape needs it, and whoever writes into it writes on one stream with its owner.

    Args:
        array: Something with DLPack (https://dmlc.github.io/dlpack) or, on CUDA,
            ``__cuda_array_interface__``; contiguous, and of a dtype that Tensors have.

    Raises:
        TypeError: If it has neither, or another dtype.
        ValueError: If it is not contiguous.
        BufferError: If it requires a gradient there.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> a = np.zeros(2, np.float32)
        >>> fn.from_dlpack(a).copy_(np.ones(2, np.float32)); a
        Tensor([1., 1.], dtype=float32)
        array([1., 1.], dtype=float32)
    """
    _core.refuse_while_recording("from_dlpack")
    if hasattr(array, "__dlpack__"):
        shared = _core.from_exchange(array)
        if shared is None:
            shared = _convert.import_dlpack(array)
    elif hasattr(array, "__cuda_array_interface__"):
        shared = _convert.from_cuda_array_interface(array)
    else:
        raise TypeError(
            f"from_dlpack: expected an array with __dlpack__, got {type(array).__name__}"
        )
    result: Tensor = shared
    return result


def _is_channels_last(array: np.ndarray[Any, Any]) -> bool:
    return array.ndim == 4 and array.transpose(0, 2, 3, 1).flags.c_contiguous


def zeros(*shape: int | Sequence[int], dtype: str = "float32", device: str = "cpu") -> Tensor:
    """A Tensor of zeros, of a shape given as sizes or as a tuple.

    Example:
        >>> import fastnn as fn
        >>> fn.zeros(2, 1).shape
        (2, 1)
    """
    return _core.full(_sizes("zeros", shape), 0.0, dtype, device)


def ones(*shape: int | Sequence[int], dtype: str = "float32", device: str = "cpu") -> Tensor:
    """A Tensor of ones, of a shape given as sizes or as a tuple.

    Example:
        >>> import fastnn as fn
        >>> fn.ones(2).sum().item()
        2.0
    """
    return _core.full(_sizes("ones", shape), 1.0, dtype, device)


def _sizes(op: str, shape: tuple[Any, ...]) -> list[int]:
    """Sizes given one by one, or as one sequence."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    for size in sizes:
        if not isinstance(size, (int, np.integer)):
            raise TypeError(f"{op}: expected whole numbers for a shape, got {tuple(sizes)}")
    return list(sizes)
