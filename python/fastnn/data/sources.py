"""Where data comes from: scikit-learn's digits, a CSV file, or an NPZ file.

Files are not trusted: nothing in them is evaluated or unpickled, sizes are checked before memory is
taken, and a message shows at most 80 characters of them.
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import os
import stat
from typing import Any

import numpy as np

from fastnn.data import _csv, _npz

__all__ = ["Dataset", "load", "load_csv", "load_digits", "load_npz"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples and their classes.

    Attributes:
        name: Where it came from, for titles and folder names.
        x: Floats of shape (n, features).
        y: int64 indices into classes, shape (n,); None if there are no labels.
        classes: Names of the classes.
        features: Names of the features.
        label: Name of the label column; empty if labels have no name.
    """

    name: str
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, np.dtype[np.int64]] | None
    classes: tuple[str, ...]
    features: tuple[str, ...]
    label: str = ""


def load(source: str, label: str | None = None, features: tuple[str, ...] | None = None) -> Dataset:
    """Load ``digits``, a ``.csv`` or a ``.npz``.

    Args:
        source: ``"digits"`` or a path.
        label: Name of the label column of a CSV; without it a CSV has no labels.
        features: The columns of a CSV to read, in this order; default: all but the label.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not what its name says; the message says where.

    Example:
        >>> import fastnn as fn
        >>> fn.data.load("digits").x.shape
        (1797, 64)
    """
    if source == "digits":
        return load_digits()
    kind = os.path.splitext(source)[1].lower()
    if kind not in (".csv", ".npz"):
        raise ValueError(f"data: expected 'digits', a .csv or a .npz, got {_shown(source)}")
    return load_csv(source, label, features) if kind == ".csv" else load_npz(source)


def load_digits() -> Dataset:
    """The 8 x 8 handwritten digits that scikit-learn ships: 1797 samples, 10 classes.

    The file is read where scikit-learn keeps it, since importing scikit-learn takes a second.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.

    Example:
        >>> import fastnn as fn
        >>> fn.data.load_digits().y[:5]
        array([0, 1, 2, 3, 4])

    Source:
        Alpaydin, Kaynak 1998, "Optical recognition of handwritten digits", UCI repository.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "data: 'digits' needs scikit-learn; install it with: pip install 'fastnn[train]'"
        )
    folder = spec.submodule_search_locations[0]
    path = os.path.join(folder, "datasets", "data", "digits.csv.gz")
    if os.path.exists(path):
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float64)
        x, y = table[:, :-1], table[:, -1].astype(np.int64)
    else:  # another layout than that of today
        from sklearn import datasets

        x, y = datasets.load_digits(return_X_y=True)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Dataset("digits", np.ascontiguousarray(x), y, tuple("0123456789"), names, "digit")


def load_csv(
    path: str, label: str | None = None, features: tuple[str, ...] | None = None
) -> Dataset:
    """Load a CSV with a header: numbers, and a label column given by name.

    Args:
        path: The file, UTF-8.
        label: Name of the label column; its texts become classes, sorted (as numbers, if all are
            integers). Without it there are no labels. Where ``features`` are given too, the column
            may be missing.
        features: The columns to read, in this order; default: all but the label. If given, other
            columns are refused.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such column, or a cell is not a finite number; the message names
            line and column.
        ModuleNotFoundError: If pyarrow is not installed.
    """
    check_file(path)
    table = _csv.read(path, label, features)
    y, classes = (None, ()) if table.labels is None else encode(table.labels)
    return Dataset(_stem(path), table.x, y, classes, table.features, label or "")


def load_npz(path: str) -> Dataset:
    """Load an NPZ with ``x`` (numbers; one row per sample) and perhaps ``y`` (integers or texts).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an array is missing, has another size than the file says, is of a dtype that
            is not allowed, or is not finite; the message says which.
    """
    check_file(path)
    arrays = _npz.read(path)
    x = arrays["x"]
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{path}: expected x of shape (n, features), not empty, got {x.shape}")
    _npz.check_finite(path, x)
    y: np.ndarray[Any, np.dtype[np.int64]] | None = None
    classes: tuple[str, ...] = ()
    if "y" in arrays:
        if arrays["y"].shape != (len(x),):
            raise ValueError(
                f"{path}: expected y of shape ({len(x)},), one label per row of x, "
                f"got {arrays['y'].shape}"
            )
        y, classes = encode(arrays["y"])
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    return Dataset(_stem(path), x, y, classes, names, "y" if "y" in arrays else "")


def encode(
    labels: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], tuple[str, ...]]:
    """Labels as indices into their sorted classes, and the names of the classes.

    Example:
        >>> import numpy as np
        >>> from fastnn.data.sources import encode
        >>> encode(np.array(["10", "9", "10"]))
        (array([1, 0, 1]), ('9', '10'))
    """
    classes, y = np.unique(labels, return_inverse=True)
    names = [str(c) for c in classes]
    if classes.dtype.kind in "UO" and all(_is_integer(name) for name in names):
        order = sorted(range(len(names)), key=lambda i: int(names[i]))
        y = np.argsort(order)[y]
        names = [names[i] for i in order]
    return y.astype(np.int64), tuple(names)


def check_file(path: str) -> None:
    """Refuse what is not a regular file.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is a directory, a device or a pipe.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: expected a file, found nothing there") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: expected a regular file, found another kind of entry")


def _is_integer(text: str) -> bool:
    digits = text[1:] if text[:1] == "-" else text
    return digits.isascii() and digits.isdigit() and len(digits) < 19


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
