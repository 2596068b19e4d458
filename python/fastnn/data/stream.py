"""Files larger than memory: read in parts, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data import _csv
from fastnn.data._columns import Columns
from fastnn.data.dataset import check_file

__all__ = ["stream_csv"]


def stream_csv(
    path: str,
    label: str | None = None,
    features: tuple[str, ...] | None = None,
    missing: bool = False,
    *,
    drop: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
    block_bytes: int = 1 << 22,
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]:
    """Read a CSV that is larger than memory: part after part, in the order of the file.

    Features are numbers, but for those whose categories are given: a stream cannot know them before
    all was read. A code beyond those given stands for any other category.

    Args:
        path: See :func:`fastnn.data.load_csv`.
        label: See :func:`fastnn.data.load_csv`.
        features: See :func:`fastnn.data.load_csv`.
        missing: See :func:`fastnn.data.load_csv`.
        drop: See :func:`fastnn.data.load_csv`.
        categories: Those of each column that holds some.
        block_bytes: How much of the file is read at a time.

    Yields:
        Numbers and codes, float64 of shape (rows, features), and the texts of the label column or
        None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`fastnn.data.load_csv`, when the part with the bad cell is reached.
        ModuleNotFoundError: If pyarrow is not installed.

    Example:
        >>> import os, tempfile
        >>> from fastnn.data import RunningStatistics, stream_csv
        >>> path = os.path.join(tempfile.mkdtemp(), "d.csv")
        >>> with open(path, "w") as file:
        ...     _ = file.write("a,b,kind\\n" + "1,2,x\\n" * 10_000)
        >>> sum(len(x) for x, labels in stream_csv(path, "kind", block_bytes=4096))
        10000
    """
    check_file(path)
    want = Columns(label, features, missing, drop=drop, categories=categories or {})
    for part in _csv.stream(path, want, block_bytes):
        yield part.x, part.labels
