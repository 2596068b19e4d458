"""CIFAR-10 and CIFAR-100, binary version: records of one or two labels and 3 x 32 x 32 bytes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastnn.data.dataset import check_file

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MAX_NAMES = 1 << 16
# By number of labels in a record: their ranges, and the file that names the classes of the last.
_KINDS = {1: ((10,), "batches.meta.txt"), 2: ((20, 100), "fine_label_names.txt")}


def files_in(folder: str) -> list[str]:
    """The files of training data in a folder, none if it is not one of CIFAR's."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".bin"))
    chosen = [n for n in names if n == "train.bin" or n.startswith("data_batch_")]
    return [os.path.join(folder, name) for name in chosen]


def read(path: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], tuple[str, ...]]:
    """Images (n, 3, 32, 32), the labels of the finest classes, and the names of the classes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not made of whole records, or a label is out of range.
    """
    size = check_file(path)
    labels = next((k for k in _KINDS if size > 0 and size % (k + _PIXELS) == 0), None)
    if labels is None:
        records = " or ".join(str(k + _PIXELS) for k in _KINDS)
        raise ValueError(
            f"{path}: expected whole records of {records} bytes (CIFAR-10 or CIFAR-100), got "
            f"{size} bytes"
        )
    data = np.fromfile(path, np.uint8).reshape(-1, labels + _PIXELS)
    ranges, names = _KINDS[labels]
    for column, classes in enumerate(ranges):
        bad = data[:, column] >= classes
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{path}: expected labels below {classes}, got {data[row, column]} at byte "
                f"{row * (labels + _PIXELS) + column}"
            )
    images = np.ascontiguousarray(data[:, labels:]).reshape(-1, *SHAPE)
    y = data[:, labels - 1].astype(np.int64)
    return images, y, _names(os.path.join(os.path.dirname(path), names), ranges[-1])


def _names(path: str, classes: int) -> tuple[str, ...]:
    """The names in a file next to the data; numbers if there is no such file."""
    if not os.path.exists(path):
        return tuple(str(i) for i in range(classes))
    if check_file(path) > _MAX_NAMES:
        raise ValueError(f"{path}: expected at most {_MAX_NAMES} bytes, got more")
    with open(path, encoding="utf-8", errors="replace") as file:
        names = tuple(line.strip()[:80] for line in file if line.strip())
    if len(names) != classes or len(set(names)) != classes:
        raise ValueError(
            f"{path}: expected {classes} names of classes, each once, got {len(set(names))}"
        )
    return names
