"""What every source gives, and the checks that files of all kinds share."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastnn.data.preprocessing import Pipeline, Transform

__all__ = ["Dataset"]

MAX_BYTES = 8 << 30  # of one array
MAX_RATIO = 200  # of compression, beyond the first MiB
MAX_COLUMNS = 65_536
_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples and their classes.

    Attributes:
        name: Where it came from, for titles and folder names.
        x: Numbers of shape (n, features).
        y: int64 indices into classes, shape (n,); None if there are no labels.
        classes: Names of the classes.
        features: Names of the features.
        label: Name of the label column; empty if labels have no name.
        shape: (channels, height, width) where the rows of x are images; else empty.
        categories: Names of the categories, by the name of each column that holds some: x has the
            index of a name there. A missing cell is a category, named ''.
    """

    name: str
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, np.dtype[np.int64]] | None
    classes: tuple[str, ...]
    features: tuple[str, ...]
    label: str = ""
    shape: tuple[int, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def categorical(self) -> tuple[int, ...]:
        """The columns of x that hold categories; see :attr:`numeric`."""
        return tuple(i for i, name in enumerate(self.features) if name in self.categories)

    @property
    def numeric(self) -> tuple[int, ...]:
        """The columns of x that hold numbers.

        Example:
            >>> import pyarrow as pa
            >>> from fastnn.data import load
            >>> table = load(pa.table({"city": ["Rome", "Bonn"], "size": [2.8, 0.3]}))
            >>> table.numeric, table.categorical, table.categories, table.x[:, 0].tolist()
            ((1,), (0,), {'city': ('Bonn', 'Rome')}, [1.0, 0.0])
        """
        return tuple(i for i, name in enumerate(self.features) if name not in self.categories)

    def pipeline(self, *numbers: Transform, handle_unknown: str = "ignore") -> Pipeline:
        """Preprocessing for these columns, unfitted: steps for the numbers, 0 and 1 for categories.

        Args:
            *numbers: What is done to the numbers, one after another.
            handle_unknown: What a category does that the training data do not have: ``"ignore"``
                for zeros in all columns of its feature, or ``"error"``.

        Example:
            >>> import pyarrow as pa
            >>> from fastnn.data import StandardScaler, load
            >>> table = load(pa.table({"city": ["Rome", "Bonn"], "size": [2.8, 0.3]}))
            >>> table.pipeline(StandardScaler()).fit_transform(table.x)
            array([[ 1.,  0.,  1.],
                   [-1.,  1.,  0.]])
        """
        from fastnn.data.preprocessing import ColumnTransformer, OneHotEncoder, Pipeline

        steps = Pipeline(*numbers)
        if not self.categorical:
            return steps
        parts = [(steps, self.numeric)] if self.numeric else []
        encoder = OneHotEncoder(handle_unknown=handle_unknown)
        return Pipeline(ColumnTransformer(*parts, (encoder, self.categorical)))

    @property
    def images(self) -> np.ndarray[Any, Any]:
        """x of shape (n, channels, height, width).

        Raises:
            ValueError: If the samples are no images.
        """
        if not self.shape:
            raise ValueError(f"{self.name}: expected images, got rows of {self.x.shape[1]} numbers")
        return self.x.reshape(len(self.x), *self.shape)


def of_images(
    name: str,
    images: np.ndarray[Any, Any],
    y: np.ndarray[Any, np.dtype[np.int64]] | None,
    classes: tuple[str, ...],
) -> Dataset:
    """A data set of images, shape (n, channels, height, width)."""
    _, channels, height, width = images.shape
    where = [(r, c) for r in range(height) for c in range(width)]
    names = [f"pixel_{r}_{c}" for r, c in where]
    if channels > 1:
        names = [f"channel_{i}_{pixel}" for i in range(channels) for pixel in names]
    label = "" if y is None else "class"
    flat = images.reshape(len(images), -1)
    return Dataset(name, flat, y, classes, tuple(names), label, images.shape[1:])


def check_file(path: str) -> int:
    """Refuse what is not a regular file; its size.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is a directory, a device or a pipe.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: expected a file, found nothing there") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a regular file, found another kind of entry")
    return status.st_size


def check_unpacked(path: str, what: str, unpacked: int, packed: int) -> None:
    """Refuse what would unpack to more than it is likely to be worth.

    Raises:
        ValueError: If it is a bomb.
    """
    if unpacked > MAX_BYTES:
        raise ValueError(f"{path}: expected {what} of at most {MAX_BYTES} bytes, got {unpacked}")
    if unpacked > max(1 << 20, MAX_RATIO * packed):
        raise ValueError(
            f"{path}: expected {what} compressed at most {MAX_RATIO}:1, got {unpacked}:{packed}; "
            "store it uncompressed"
        )


def first_bad(x: np.ndarray[Any, Any], missing: bool) -> tuple[int, int] | None:
    """Row and column of the first infinity, and NaN where none may be missing."""
    if x.dtype.kind != "f":
        return None
    rows = max(1, _CHUNK // x.shape[1])
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        bad = np.isinf(part) if missing else ~np.isfinite(part)
        if bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            return start + int(row), int(column)
    return None


def filling(value: float) -> str:
    """How a message goes on if the bad value is a missing one."""
    return "; to fill it: data.impute=median, missing=True" if np.isnan(value) else ""


def check_header(path: str, names: list[str]) -> None:
    """Refuse too many columns, and a name that stands there twice.

    Raises:
        ValueError: See above.
    """
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"{path}: expected at most {MAX_COLUMNS} columns, got {len(names)}")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{path}: expected each column once, got {shown(twice)} twice in line 1")


def stem(path: str) -> str:
    """The name of a file without folder and extension."""
    return os.path.splitext(os.path.basename(os.path.normpath(path)))[0]


def shown(text: str) -> str:
    """At most 80 characters of a text, quoted."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def listed(names: list[str]) -> str:
    """The first of some names, quoted, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "[" + ", ".join(shown(name) for name in names[:5]) + "]" + more
