"""Checkpoint files: safetensors, written whole or not at all, and verified before use.

Layout: 8 bytes header length, a JSON header with names, dtypes, shapes, offsets and metadata (texts
only), then the data. ``metadata["checksums"]`` holds the CRC32 of each tensor, and
``metadata["header_crc32"]`` that of the rest of the header. The checksums find damage; they do not
prove who wrote the file. The file is written here, since safetensors changed its writing interface
between 0.7 and 0.8, and read by safetensors, which is strict about offsets and sizes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors

from fastnn import _core
from fastnn._version import __version__
from fastnn.tensor import as_tensor

__all__ = [
    "EXTRA",
    "CheckpointError",
    "StorageError",
    "read_tensors",
    "write_atomically",
    "write_tensors",
]

EXTRA = "extra:"  # begins the names of what is no tensor of the model: float64, NumPy in and out

FORMAT_VERSION = 1
_MAX_HEADER = 16 << 20
_MAX_TENSORS = 65_536
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}
_CODES = {"float32": "F32", "int64": "I64", "uint8": "U8", "bfloat16": "BF16"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, of another format, or of another model."""


class StorageError(OSError):
    """A file that could not be written: no space, no permission, a broken disk; has ``errno``."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file at ``path``: a crash leaves the old content or the new one, never a part.

    Writes a temporary file in the same folder, forces it to disk, renames it, and forces the folder
    to disk.

    Raises:
        StorageError: If any of that fails; the message says what is at ``path`` then.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    what = "is as it was"
    try:
        try:
            _write_and_sync(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        what = "is the new one, but may not outlast a power failure"
        directory = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "?")
        raise StorageError(
            error.errno,
            f"expected to write {len(data)} bytes, got {code}, {error.strerror}; the file {what}",
            path,
        ) from error


def _write_and_sync(path: str, data: bytes) -> None:
    """A new file; what a failed fsync wrote counts as lost, so it is not tried again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(path: str, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write arrays or Tensors by name, with texts by name, as one safetensors file."""
    parts = {name: _encode(value) for name, value in tensors.items()}
    order = sorted(parts, key=lambda name: (-_DTYPES[parts[name][0]].itemsize, name))
    header: dict[str, Any] = {}
    offset = 0
    for name in order:
        code, shape, data = parts[name]
        header[name] = {
            "dtype": code,
            "shape": shape,
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
    checksums = {name: zlib.crc32(parts[name][2]) for name in order}
    texts = {
        "format": "fastnn",
        "format_version": str(FORMAT_VERSION),
        "fastnn_version": __version__,
        **metadata,
        "checksums": json.dumps(checksums),
    }
    texts["header_crc32"] = str(_header_crc32(header, texts))
    text = json.dumps({"__metadata__": texts, **header}).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(
            f"{path}: expected a header of at most {_MAX_HEADER} bytes, got {len(text)}"
        )
    body = b"".join(parts[name][2] for name in order)
    write_atomically(path, len(text).to_bytes(8, "little") + text + body)


def read_tensors(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The Tensors and texts of a file that :func:`write_tensors` wrote; arrays named ``EXTRA`` too.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If anything in it is not as it was written.
    """
    data = _read_file(path)
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise CheckpointError(
            f"{path}: expected a whole checkpoint, got a truncated file of {len(data)} bytes"
        )
    if size > _MAX_HEADER:
        raise CheckpointError(
            f"{path}: expected a header of at most {_MAX_HEADER} bytes, got {size}"
        )
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        header = json.loads(data[8 : 8 + size])
        texts = header.pop("__metadata__")
        if texts["format"] != "fastnn":
            raise KeyError("format")
        version, expected = texts["format_version"], int(texts.pop("header_crc32"))
        checksums = json.loads(texts["checksums"])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: expected a fastnn checkpoint, got a truncated, damaged or foreign file "
            f"({str(error)[:80]!r})"
        ) from None
    if _header_crc32(header, texts) != expected:
        raise CheckpointError(f"{path}: expected an intact header, got one with a wrong checksum")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION}, got {version[:80]!r}; "
            f"it was written by fastnn {texts.get('fastnn_version', '?')[:80]!r}"
        )
    if len(entries) > _MAX_TENSORS:
        raise CheckpointError(
            f"{path}: expected at most {_MAX_TENSORS} tensors, got {len(entries)}"
        )
    for name, entry in entries:
        if zlib.crc32(entry["data"]) != checksums.get(name):
            raise CheckpointError(
                f"{path}: expected tensor {name[:80]!r} intact, got a wrong checksum"
            )
    return {name: _decode(path, name, entry) for name, entry in entries}, texts


def _read_file(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no such file") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckpointError(f"{path}: expected a regular file, found another kind of entry")
        return file.read()


def _header_crc32(header: Mapping[str, Any], texts: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps([header, texts], sort_keys=True).encode())


def _encode(value: Any) -> tuple[str, list[int], bytes]:
    """(dtype code, shape, little-endian bytes) of an array or a Tensor."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return "F64", list(value.shape), value.astype(_DTYPES["F64"], copy=False).tobytes()
    source = as_tensor(value).detach().to("cpu")
    code = _CODES[source.dtype]
    array = np.asarray(source)
    if code == "BF16":  # comes as float32; the upper halves are its bits
        array = (array.view(np.uint32) >> 16).astype(np.uint16)
    return code, list(source.shape), array.astype(_DTYPES[code], copy=False).tobytes()


def _decode(path: str, name: str, entry: Mapping[str, Any]) -> Any:
    allowed = [code for code in _DTYPES if (code == "F64") == name.startswith(EXTRA)]
    if entry["dtype"] not in allowed:
        raise CheckpointError(
            f"{path}: expected tensor {name[:80]!r} of dtype {', '.join(allowed)}, got "
            f"{entry['dtype'][:80]!r}"
        )
    dtype = _DTYPES[entry["dtype"]]
    if len(entry["shape"]) > 8:
        raise CheckpointError(
            f"{path}: expected tensor {name[:80]!r} with at most 8 axes, got {len(entry['shape'])}"
        )
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    if entry["dtype"] == "F64":
        return array.astype(np.float64)
    if entry["dtype"] == "BF16":
        widened: Any = _core.share((array.astype(np.uint32) << 16).view(np.float32))
        return _core.to_dtype(widened, "bfloat16")
    return _core.share(array.astype(dtype.newbyteorder("=")))
