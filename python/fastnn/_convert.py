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
    if not isinstance(data, np.ndarray):
        if hasattr(data, "__dlpack__"):
            return from_dlpack(data)
        if hasattr(data, "__cuda_array_interface__"):
            return from_cuda_array_interface(data)
    try:
        array = np.asarray(data)
    except ValueError as why:  # NumPy says how far the shape goes
        raise ValueError(
            f"tensor: expected an array, or nested sequences of equal lengths; NumPy: {why}"
        ) from None
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


def import_dlpack(data: Any) -> Any:
    """Share the memory of a DLPack producer, whose stream is waited for by this thread's."""
    index = _cuda_index_of(data)
    options = {} if index is None else {"stream": _core.consumer_stream(index)}
    try:
        capsule = data.__dlpack__(max_version=(1, 3), **options)
    except TypeError:  # a producer older than DLPack 1.0
        capsule = data.__dlpack__(**options)
    return _core.from_dlpack(capsule)


def from_dlpack(data: Any) -> Any:
    """The same, or on the CPU a copy of what cannot be shared."""
    try:
        return import_dlpack(data)
    except (TypeError, ValueError):
        if _cuda_index_of(data) is not None:
            raise
        return to_array(np.from_dlpack(data))


def _cuda_index_of(data: Any) -> int | None:
    """The index of a DLPack producer's device, where that is a CUDA device."""
    kind, index = data.__dlpack_device__() if hasattr(data, "__dlpack_device__") else (1, 0)
    return int(index) if kind == 2 else None


def from_cuda_array_interface(data: Any) -> Any:
    """What CuPy, Numba and torch have on CUDA beside DLPack. Its stream has what it waits for."""
    of = data.__cuda_array_interface__
    if of.get("mask") is not None:
        raise TypeError("tensor: expected __cuda_array_interface__ without a mask, got one with it")
    pointer, read_only = of["data"]
    # Before version 3 it has no stream: the legacy default stream is what torch works on.
    stream = of.get("stream") if of["version"] >= 3 else 1
    return _core.from_cuda_array(
        pointer, list(of["shape"]), of.get("strides"), of["typestr"], read_only, stream, data
    )


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
