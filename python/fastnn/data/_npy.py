"""NPY without trust: its header is checked against the size of the file; nothing is unpickled."""

from __future__ import annotations

import math
import tokenize
import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

_MAX_HEADER = 10_000
# What NumPy's reader raises for headers that are none, found by changing bytes.
_BAD_HEADER = (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError)


def read_header(
    path: str, name: str, file: BinaryIO | Any, size: int
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether by columns, dtype) of an array whose member or file has this many bytes.

    The file stands at the data afterwards.

    Raises:
        ValueError: If the header is not one of a plain array of exactly that size.
    """
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"npy version {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names of dtypes that NumPy will forget
            shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except _BAD_HEADER as error:
        text = (str(error).splitlines() or [""])[0][:80]
        raise ValueError(
            f"{path}: expected an array in {name}, got a bad header: {text!r}"
        ) from None
    _check_dtype(path, name, dtype)
    expected = math.prod(shape) * dtype.itemsize
    if any(axis < 0 for axis in shape) or file.tell() + expected != size:
        raise ValueError(
            f"{path}: expected {name} of shape {shape} and {expected} bytes, got "
            f"{size - file.tell()} bytes"
        )
    return shape, fortran, dtype


def memory_map(path: str, name: str, size: int) -> np.ndarray[Any, Any]:
    """The array in a file of this size, read from disk as it is used."""
    with open(path, "rb") as file:
        shape, fortran, dtype = read_header(path, name, file, size)
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        order: Any = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)


def _check_dtype(path: str, name: str, dtype: np.dtype[Any]) -> None:
    allowed = "fiub" if name == "x" else "iubU"
    if (
        dtype.kind not in allowed
        or dtype.itemsize == 0
        or (dtype.kind == "f" and dtype.itemsize > 8)
    ):
        what = "numbers" if name == "x" else "integers or texts"
        raise ValueError(f"{path}: expected {name} to hold {what}, got dtype {dtype}")
