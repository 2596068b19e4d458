"""NPZ without trust: the sizes that a header claims are checked against the file before reading."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy

_MAX_BYTES = 8 << 30
_MAX_RATIO = 200
_MAX_HEADER = 10_000


def read(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays x and, if there is one, y."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if "x.npy" not in members:
                found = ", ".join(repr(name[:80]) for name in list(members)[:5]) or "nothing"
                raise ValueError(f"{path}: expected an array x, found {found}")
            return {
                name: _read_member(path, archive, members[f"{name}.npy"], name)
                for name in ("x", "y")
                if f"{name}.npy" in members
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path}: expected an NPZ file, got a damaged one ({error})") from None


def _read_member(
    path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str
) -> np.ndarray[Any, Any]:
    if info.file_size > _MAX_BYTES:
        raise ValueError(
            f"{path}: expected {name} of at most {_MAX_BYTES} bytes, got {info.file_size}"
        )
    if info.file_size > max(1 << 20, _MAX_RATIO * info.compress_size):
        raise ValueError(
            f"{path}: expected {name} compressed at most {_MAX_RATIO}:1, got "
            f"{info.file_size}:{info.compress_size}; save it with np.savez"
        )
    with archive.open(info) as file:
        try:
            version = npy.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy version {version}")
            read_header = (
                npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(file, max_header_size=_MAX_HEADER)
        except ValueError as error:
            text = str(error).splitlines()[0][:80]
            raise ValueError(
                f"{path}: expected an array in {name}, got a bad header: {text!r}"
            ) from None
        _check_dtype(path, name, dtype)
        expected = math.prod(shape) * dtype.itemsize
        if any(size < 0 for size in shape) or file.tell() + expected != info.file_size:
            raise ValueError(
                f"{path}: expected {name} of shape {shape} and {expected} bytes, got "
                f"{info.file_size - file.tell()} bytes"
            )
        data = file.read(expected)
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def _check_dtype(path: str, name: str, dtype: np.dtype[Any]) -> None:
    allowed = "fiub" if name == "x" else "iubU"
    if (
        dtype.kind not in allowed
        or dtype.itemsize == 0
        or (dtype.kind == "f" and dtype.itemsize > 8)
    ):
        what = "numbers" if name == "x" else "integers or texts"
        raise ValueError(f"{path}: expected {name} to hold {what}, got dtype {dtype}")


def check_finite(path: str, x: np.ndarray[Any, Any]) -> None:
    """Raise with row and column of the first NaN or infinity."""
    if x.dtype.kind == "f":
        bad = ~np.isfinite(x)
        if bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            raise ValueError(
                f"{path}: expected finite numbers, got {x[row, column]} in x at row {row}, "
                f"column {column}"
            )
