"""Where data comes from: one function for files, folders, data frames and pairs.

Files are not trusted: nothing in them is evaluated or unpickled, sizes are checked before memory is
taken, and a message shows at most 80 characters of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data import _cifar, _idx, _npy, _npz
from fastnn.data.dataset import (
    Dataset,
    check_file,
    filling,
    first_bad,
    listed,
    of_images,
    shown,
    stem,
)
from fastnn.data.digits import load_digits
from fastnn.data.images import ImageFolder
from fastnn.data.preprocessing.encode import encode
from fastnn.data.tables import TABLES, load_csv, load_frame, load_table

__all__ = [
    "load",
    "load_cifar",
    "load_idx",
    "load_npy",
    "load_npz",
    "load_pairs",
]

_KINDS = (".csv", ".tsv", ".npz", ".npy", *TABLES, ".bin", ".idx", "-idx3-ubyte")
Classes = tuple[str, ...]
Labels = np.ndarray[Any, np.dtype[np.int64]] | None


def load(
    source: Any,
    label: str | None = None,
    features: Classes | None = None,
    missing: bool = False,
    *,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Load what ``fastnn train DATA`` takes, or data that are in memory.

    ======================================  ==========================================
    source                                  read by
    ======================================  ==========================================
    ``"digits"``                            :func:`load_digits`
    ``.csv``, ``.tsv``                      :func:`load_csv`
    ``.npz``                                :func:`load_npz`
    ``.npy``                                :func:`load_npy`
    ``.parquet``, ``.arrow``, ``.feather``  :func:`load_table`
    ``-idx3-ubyte``, ``.idx``, ``.gz``      :func:`load_idx`
    ``.bin``, a folder of them              :func:`load_cifar`
    a folder of folders of images           :class:`ImageFolder`
    a data frame (pandas, polars, Arrow)    :func:`load_frame`
    an iterable of (x, y)                   :func:`load_pairs`
    ======================================  ==========================================

    Args:
        source: A name, a path, a frame or an iterable.
        label: Name of the label column of a table; without it a table has no labels.
        features: The columns of a table to read, in this order; default: all but the label.
        missing: Whether x may have missing values; they are NaN then.
        categorical: Columns of a table that hold categories; see :func:`load_csv`.
        drop: Columns of a table to leave out.
        categories: Categories of the training data by column; see :func:`load_csv`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not what its name says; the message says where. If ``drop`` or
            ``categorical`` name columns of what is no table.

    Example:
        >>> import fastnn as fn
        >>> fn.data.load("digits").x.shape
        (1797, 64)
    """
    kinds: Any = {"categorical": categorical, "drop": drop, "categories": categories}
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        if hasattr(source, "__arrow_c_stream__"):
            return load_frame(source, label, features, missing, **kinds)
        if features is None:
            _check_no_columns("pairs", drop, categorical)
        return load_pairs(source, missing)
    kind = os.path.splitext(source)[1].lower()
    if kind in (".csv", ".tsv", *TABLES) and not os.path.isdir(source):
        read = load_table if kind in TABLES else load_csv
        return read(source, label, features, missing, **kinds)
    if features is None:  # else it is to predict: what was left out of a table is not there
        _check_no_columns(source, drop, categorical)
    if source == "digits":
        return load_digits()
    if os.path.isdir(source):
        return _load_folder(source)
    if kind in (".npz", ".npy"):
        return (load_npz if kind == ".npz" else load_npy)(source, missing)
    if kind == ".bin":
        return load_cifar(source)
    if _idx.is_idx(source):
        return load_idx(source)
    raise ValueError(
        f"data: expected 'digits', a folder or a file ({', '.join(_KINDS)}), got {shown(source)}"
    )


def _check_no_columns(source: str, drop: Sequence[str], categorical: Sequence[str]) -> None:
    for option, names in (("drop", drop), ("categorical", categorical)):
        if names:
            raise ValueError(
                f"{shown(source)[1:-1]}: expected data.{option} for the columns of a table only "
                f"(.csv, .tsv, {', '.join(TABLES)}, a data frame), got {listed(list(names))}"
            )


def _load_folder(path: str) -> Dataset:
    if _cifar.files_in(path):
        return load_cifar(path)
    return ImageFolder(path).load()


def load_pairs(pairs: Iterable[tuple[Any, Any]], missing: bool = False) -> Dataset:
    """Take samples and labels one by one: (x, y) with numbers of one shape and a text or integer.

    Raises:
        ValueError: If there are none, or one is not like the first; the message says which.

    Example:
        >>> from fastnn.data import load_pairs
        >>> data = load_pairs((([i, i * i], "even" if i % 2 == 0 else "odd") for i in range(3)))
        >>> data.x.tolist(), data.y.tolist(), data.classes
        ([[0, 0], [1, 1], [2, 4]], [0, 1, 0], ('even', 'odd'))
    """
    if not isinstance(pairs, Iterable):
        raise TypeError(
            "data: expected a path, a data frame or an iterable of (x, y), got "
            f"{type(pairs).__name__}"
        )
    rows: list[np.ndarray[Any, Any]] = []
    labels: list[Any] = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"pairs: expected (x, y), got {type(pair).__name__} at {i}")
        row, y = np.asarray(pair[0]), pair[1]
        if row.dtype.kind not in "fiub":
            raise ValueError(f"pairs: expected numbers x, got dtype {row.dtype} at {i}")
        if rows and row.shape != rows[0].shape:
            raise ValueError(f"pairs: expected x of shape {rows[0].shape}, got {row.shape} at {i}")
        if not isinstance(y, str | int | np.integer):
            kind = type(y).__name__
            raise ValueError(f"pairs: expected a text or an integer y, got {kind} at {i}")
        rows.append(row)
        labels.append(y)
    if len({isinstance(y, str) for y in labels}) > 1:
        raise ValueError("pairs: expected labels that are all texts or all integers, got both")
    x = np.stack(rows) if rows else np.empty(0)
    return _of_arrays("pairs", x, np.array(labels), missing)


def load_npz(path: str, missing: bool = False) -> Dataset:
    """Load an NPZ with ``x`` (numbers; one row per sample) and perhaps ``y`` (integers or texts).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an array is missing, has another size than the file says, is of a dtype that
            is not allowed, or is not finite; the message says which.
    """
    check_file(path)
    arrays = _npz.read(path)
    return _of_arrays(path, arrays["x"], arrays.get("y"), missing)


def load_npy(path: str, missing: bool = False) -> Dataset:
    """Load an NPY, which stays on disk until it is used; never a pickled one.

    The labels of ``NAME_x.npy`` (or ``x.npy``) are those in ``NAME_y.npy`` next to it, if it is
    there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As for :func:`load_npz`.

    Example:
        >>> import os, tempfile, numpy as np, fastnn as fn
        >>> folder = tempfile.mkdtemp()
        >>> np.save(os.path.join(folder, "train_x.npy"), np.ones((3, 2)))
        >>> np.save(os.path.join(folder, "train_y.npy"), np.array(["a", "b", "a"]))
        >>> data = fn.data.load(os.path.join(folder, "train_x.npy"))
        >>> type(data.x).__name__, data.y
        ('memmap', array([0, 1, 0]))
    """
    x = _npy.memory_map(path, "x", check_file(path))
    base = path[: -len("x.npy")]
    y = None
    if (
        path.endswith("x.npy")
        and base[-1:] in ("", "/", "_", "-", ".")
        and os.path.exists(f"{base}y.npy")
    ):
        y = _npy.memory_map(f"{base}y.npy", "y", check_file(f"{base}y.npy"))
    return _of_arrays(path, x, y, missing)


def _of_arrays(
    path: str, x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any] | None, missing: bool
) -> Dataset:
    """Checked arrays as a data set; x of four axes are images."""
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(
            f"{path}: expected x of shape (n, features) or (n, channels, height, width), not "
            f"empty, got {x.shape}"
        )
    flat = x.reshape(len(x), -1)
    bad = first_bad(flat, missing)
    if bad is not None:
        raise ValueError(
            f"{path}: expected finite numbers, got {flat[bad]} in x at row {bad[0]}, column "
            f"{bad[1]}{filling(flat[bad])}"
        )
    y: Labels = None
    classes: Classes = ()
    if labels is not None:
        if labels.shape != (len(x),):
            raise ValueError(
                f"{path}: expected y of shape ({len(x)},), one label per row of x, "
                f"got {labels.shape}"
            )
        y, classes = encode(labels)
    if x.ndim == 4:
        return of_images(stem(path), x, y, classes)
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    return Dataset(stem(path), flat, y, classes, names, "" if y is None else "y")


def load_idx(path: str, labels: str | None = None) -> Dataset:
    """Load images in MNIST's format, also with ``.gz``.

    Args:
        path: The file of images, of shape (n, height, width) or (n, channels, height, width), or of
            rows (n, features).
        labels: The file of labels; default: the one that MNIST's names put next to the images
            (``train-labels-idx1-ubyte`` for ``train-images-idx3-ubyte``), if it is there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is not of exactly the size that its header says, or there are more
            labels than images, or fewer.

    Example:
        >>> import os, tempfile, fastnn as fn
        >>> path = os.path.join(tempfile.mkdtemp(), "train-images-idx3-ubyte")
        >>> with open(path, "wb") as file:
        ...     size = file.write(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2]) + b"1234")
        >>> fn.data.load(path).images
        array([[[[49, 50],
                 [51, 52]]]], dtype=uint8)

    Source:
        LeCun, Cortes, Burges 1998, "The MNIST database of handwritten digits".
    """
    x = _idx.read(path)
    labels = labels or _idx.labels_beside(path)
    y = None if labels is None else _idx.read(labels)
    if y is not None and y.dtype.kind not in "iu":
        raise ValueError(f"{labels}: expected integers as labels, got dtype {y.dtype}")
    if y is not None and y.shape != (len(x),):
        raise ValueError(
            f"{labels}: expected labels of shape ({len(x)},) for {os.path.basename(path)}, got "
            f"{y.shape}"
        )
    return _of_arrays(path, x[:, None] if x.ndim == 3 else x, y, missing=False)


def load_cifar(path: str) -> Dataset:
    """Load CIFAR-10 or CIFAR-100, binary version: a file, or the training files of a folder.

    The classes are the 10, or the 100 fine ones; their names are read from ``batches.meta.txt`` or
    ``fine_label_names.txt`` next to the data, if it is there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is not made of whole records, or a label is out of range.

    Source:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    files = _cifar.files_in(path) if os.path.isdir(path) else [path]
    if not files:
        raise ValueError(f"{path}: expected data_batch_*.bin or train.bin, found none")
    parts = [_cifar.read(file) for file in files]
    classes = parts[0][2]
    for file, part in zip(files, parts, strict=True):
        if part[2] != classes:
            raise ValueError(
                f"{file}: expected {len(classes)} classes as in {os.path.basename(files[0])}, got "
                f"{len(part[2])}"
            )
    images, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return of_images(stem(path), images, y, classes)
