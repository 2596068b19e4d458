"""NPZ without trust: the sizes that a header claims are checked against the file before reading."""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from fastnn.data import _npy
from fastnn.data.dataset import check_unpacked, shown

_MAX_MEMBERS = 1024
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, NotImplementedError, OverflowError, RuntimeError),
)


def read(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays x and, if there is one, y."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            if "x.npy" not in members:
                found = ", ".join(repr(name[:80]) for name in list(members)[:5]) or "nothing"
                raise ValueError(f"{path}: expected an array x, found {found}")
            return {
                name: _read_member(path, archive, members[f"{name}.npy"], name)
                for name in ("x", "y")
                if f"{name}.npy" in members
            }
    except _DAMAGE as error:
        text = shown(str(error))
        raise ValueError(f"{path}: expected an NPZ file, got a damaged one: {text}") from None


def _members(path: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name: plain names, each once."""
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise ValueError(f"{path}: expected at most {_MAX_MEMBERS} arrays, got {len(infos)}")
    for info in infos:
        name = info.filename
        if "/" in name or "\\" in name or not name.isprintable():
            raise ValueError(f"{path}: expected arrays by plain names, got {shown(name)}")
        if name in members:
            raise ValueError(f"{path}: expected each array once, got {shown(name)} twice")
        members[name] = info
    return members


def _read_member(
    path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str
) -> np.ndarray[Any, Any]:
    check_unpacked(path, name, info.file_size, info.compress_size)
    with archive.open(info) as file:
        shape, fortran, dtype = _npy.read_header(path, name, file, info.file_size)
        data = file.read(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")
