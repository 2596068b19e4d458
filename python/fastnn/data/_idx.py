"""IDX, the format of MNIST: two zero bytes, dtype, number of axes, sizes, numbers; all big-endian.

The header is checked against the size of the file before memory is taken.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from typing import Any, BinaryIO

import numpy as np

from fastnn.data.dataset import check_file, check_unpacked, shown

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_AXES = 8
_NAME = re.compile(r"([-.]idx\d?-\w+|\.idx\d?)(\.gz)?$", re.I)


def is_idx(path: str) -> bool:
    """Whether a file is named like one: ...-idx3-ubyte, ....idx, and either with .gz."""
    return _NAME.search(path) is not None


def labels_beside(path: str) -> str | None:
    """The file of labels that MNIST's naming puts next to a file of images, if it is there."""
    folder, name = os.path.split(path)
    other = re.sub(r"idx\d", "idx1", name.replace("images", "labels"))
    for candidate in (other, other.removesuffix(".gz"), f"{other}.gz"):
        there = os.path.join(folder, candidate)
        if candidate != name and "labels" in candidate and os.path.exists(there):
            return there
    return None


def read(path: str) -> np.ndarray[Any, Any]:
    """The array in a file, in native byte order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an IDX file of exactly the size that its header says.
    """
    size = check_file(path)
    if not path.lower().endswith(".gz"):
        with open(path, "rb") as file:
            return _read(path, file, size, packed=False)
    try:
        with gzip.open(path, "rb") as file:
            return _read(path, file, size, packed=True)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        text = shown(str(error))
        raise ValueError(f"{path}: expected gzip data, got damaged ones: {text}") from None


def _read(path: str, file: BinaryIO | Any, size: int, packed: bool) -> np.ndarray[Any, Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        got = magic.hex(" ") or "nothing"
        raise ValueError(f"{path}: expected an IDX file, which begins with 00 00, got {got}")
    if magic[2] not in _DTYPES:
        codes = ", ".join(f"{code:#04x}" for code in _DTYPES)
        raise ValueError(f"{path}: expected a dtype of {codes}, got {magic[2]:#04x} at byte 2")
    if not 1 <= magic[3] <= _MAX_AXES:
        raise ValueError(f"{path}: expected 1 to {_MAX_AXES} axes, got {magic[3]} at byte 3")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(
            f"{path}: expected {magic[3]} sizes in the header, got its end at byte "
            f"{4 + len(header)}"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    dtype = np.dtype(_DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    if packed:
        check_unpacked(path, "data", expected, size)
    elif size != 4 + len(header) + expected:
        got_bytes = size - 4 - len(header)
        raise ValueError(
            f"{path}: expected shape {shape} and {expected} bytes from byte {4 + len(header)} on, "
            f"got {got_bytes} bytes"
        )
    data = file.read(expected)
    if len(data) < expected or file.read(1):
        got = "more" if len(data) == expected else str(len(data))
        raise ValueError(
            f"{path}: expected shape {shape} and {expected} bytes from byte {4 + len(header)} on, "
            f"got {got} bytes"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
