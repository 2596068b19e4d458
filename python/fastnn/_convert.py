"""Anything array-like to a Tensor: the slow path, for what C++ cannot share as it is.

float64 becomes float32 (and raises where it overflows), integers and booleans become int64, and
what has no number in it is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _core


def to_array(data: Any) -> Any:
    """Return a C-contiguous float32, int64 or uint8 array, or a Tensor, with the values of data."""
    if not isinstance(data, np.ndarray) and hasattr(data, "__dlpack__"):
        return from_dlpack(data)
    array = np.asarray(data)
    kind = array.dtype.kind
    if array.dtype.name == "bfloat16":
        bits = np.ascontiguousarray(array).view(np.uint16)
        widened = (bits.astype(np.uint32) << 16).view(np.float32)
        return _core.to_dtype(_core.share(widened), "bfloat16")
    if kind == "f":
        return _to_float32(array)
    if kind in "iub":
        return _to_int64(array)
    if kind == "c":
        raise TypeError(
            "tensor: expected real numbers, got complex data (Complex data not supported)"
        )
    raise TypeError(f"tensor: expected numbers, got an array of dtype {array.dtype}")


def from_dlpack(data: Any) -> Any:
    """Share the memory of a DLPack producer (torch, JAX, CuPy); copy what is not contiguous."""
    try:
        capsule = data.__dlpack__(max_version=(1, 1))
    except TypeError:  # a producer older than DLPack 1.0
        capsule = data.__dlpack__()
    try:
        return _core.from_dlpack(capsule)
    except (TypeError, ValueError):
        return to_array(np.from_dlpack(data))


def _to_float32(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32, order="C")
    if array.dtype.itemsize > 4:
        overflowed = np.isinf(converted) & np.isfinite(array)
        if overflowed.any():
            index = tuple(int(i) for i in np.argwhere(overflowed)[0])
            raise ValueError(
                f"tensor: expected values within float32, got {array[index]} at index {index}"
            )
    return converted


def _to_int64(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"tensor: expected values within int64, got {int(array.max())}")
    return array.astype(np.int64, order="C")
