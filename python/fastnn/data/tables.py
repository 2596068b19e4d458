"""Tables of numbers, categories and a label column: CSV, TSV, Parquet, Arrow, data frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data import _arrow, _csv
from fastnn.data._columns import Columns, Table
from fastnn.data.dataset import Dataset, check_file, stem
from fastnn.data.preprocessing.encode import encode

__all__ = ["load_csv", "load_frame", "load_table"]

TABLES = (".parquet", ".arrow", ".feather")  # what load_table reads


def load_csv(
    path: str,
    label: str | None = None,
    features: tuple[str, ...] | None = None,
    missing: bool = False,
    *,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Load a CSV with a header, or a ``.tsv``: numbers and categories, and a label column by name.

    A column of texts holds categories: x has their codes, the places of their names in
    ``Dataset.categories``. A column does so if fewer than half of its first cells are numbers; in
    any other, a cell that is no number is refused, and so is a column of dates or times: whether
    its years, weekdays or order matter is for the user to say (a number made of it before, in a
    data frame), or it is left out, or named as one of categories. What is missing among categories
    is a category of its own, named ''. A column without a name is left out: it is an index that
    pandas wrote.

    Args:
        path: The file, UTF-8.
        label: Name of the label column; its texts become classes, sorted (as numbers, if all are
            integers). Without it there are no labels. Where ``features`` are given too, the column
            may be missing, or have missing cells; then there are no labels either.
        features: The columns to read, in this order; default: all but the label. If given, other
            columns are refused.
        missing: Whether cells may be empty, or hold NA, N/A, NaN, null or ?; they are NaN then.
        categorical: Columns that hold categories though they look like numbers.
        drop: Columns to leave out; where ``features`` are given too, they may be missing.
        categories: ``Dataset.categories`` of the training data: these columns hold categories and
            no others, and codes are the same. Names that are not there get codes after them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such column, or a cell is not a finite number; the message names
            line and column.
        ModuleNotFoundError: If pyarrow is not installed.

    Example:
        >>> import os, tempfile
        >>> from fastnn.data import load_csv
        >>> path = os.path.join(tempfile.mkdtemp(), "d.csv")
        >>> with open(path, "w") as file:
        ...     _ = file.write("city,size,kind\\nRome,2.8,a\\nBonn,0.3,b\\nRome,2.9,a\\n")
        >>> table = load_csv(path, "kind")
        >>> table.x.tolist(), table.categories
        ([[1.0, 2.8], [0.0, 0.3], [1.0, 2.9]], {'city': ('Bonn', 'Rome')})
    """
    check_file(path)
    want = Columns(label, features, missing, categorical, drop, categories)
    return _of_table(path, _csv.read(path, want), label)


def load_table(
    path: str,
    label: str | None = None,
    features: tuple[str, ...] | None = None,
    missing: bool = False,
    *,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Load a Parquet file or an Arrow IPC file (``.arrow``, ``.feather``); see :func:`load_csv`.

    Columns of texts, booleans and what data frames call categories (dictionaries) hold categories;
    dates and times are refused.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such column, one holds neither, or a cell is not finite;
            the message names row and column.
        ModuleNotFoundError: If pyarrow is not installed.
    """
    check_file(path)
    table = _arrow.read(path, os.path.splitext(path)[1].lower())
    want = Columns(label, features, missing, categorical, drop, categories)
    return _of_table(path, _arrow.columns(path, table, want), label)


def load_frame(
    frame: Any,
    label: str | None = None,
    features: tuple[str, ...] | None = None,
    missing: bool = False,
    *,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Take a data frame of any library that speaks Arrow: pandas, polars, DuckDB, pyarrow.

    Args:
        frame: Has ``__arrow_c_stream__``.
        label: See :func:`load_csv`, and for what follows.
        features: The columns to take.
        missing: Whether values may be missing.
        categorical: Columns that hold categories though they look like numbers.
        drop: Columns to leave out.
        categories: Categories of the training data.

    Raises:
        ValueError: As for :func:`load_table`.
        ModuleNotFoundError: If pyarrow is not installed.

    Example:
        >>> import pyarrow as pa
        >>> from fastnn.data import load_frame
        >>> frame = pa.table({"a": [1, 2], "kind": ["cat", "dog"], "b": [0.5, 1.5]})
        >>> load_frame(frame, "kind").x
        array([[1. , 0.5],
               [2. , 1.5]])
    """
    table = _arrow.library("data frames").table(frame)
    want = Columns(label, features, missing, categorical, drop, categories)
    return _of_table("frame", _arrow.columns("frame", table, want), label)


def mixed_columns(source: str) -> dict[str, tuple[str, int]]:
    """Columns of a CSV that have texts among their numbers: the first text, and its line.

    Of anything else none; of a large file, as far as its first rows show.

    Example:
        >>> import os, tempfile
        >>> from fastnn.data.tables import mixed_columns
        >>> path = os.path.join(tempfile.mkdtemp(), "d.csv")
        >>> with open(path, "w") as file:
        ...     _ = file.write("ticket,city\\n12,Rome\\nA 7,Bonn\\n99,Rome\\n")
        >>> mixed_columns(path)
        {'ticket': ('A 7', 3)}
    """
    is_csv = source.lower().endswith((".csv", ".tsv")) and os.path.isfile(source)
    return _csv.mixed(source) if is_csv else {}


def date_columns(source: str) -> list[str]:
    """Columns of a table in a file that hold dates or times; :func:`load_csv` refuses them.

    Example:
        >>> import os, tempfile
        >>> from fastnn.data.tables import date_columns
        >>> path = os.path.join(tempfile.mkdtemp(), "d.csv")
        >>> with open(path, "w") as file:
        ...     _ = file.write("day,city\\n2024-01-31,Rome\\n2024-02-01,Bonn\\n")
        >>> date_columns(path)
        ['day']
    """
    kind = os.path.splitext(source)[1].lower()
    if not os.path.isfile(source):
        return []
    if kind in (".csv", ".tsv"):
        return _csv.dates(source)
    return _arrow.dates(_arrow.read(source, kind)) if kind in TABLES else []


def _of_table(path: str, table: Table, label: str | None) -> Dataset:
    missing = table.labels is None or "" in table.labels
    y, classes = (None, ()) if missing else encode(np.asarray(table.labels))
    categories = table.categories
    return Dataset(
        stem(path), table.x, y, classes, table.features, label or "", categories=categories
    )
