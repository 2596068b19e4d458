"""Tables by pyarrow: Parquet, Arrow IPC (Feather), and data frames of other libraries."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fastnn.data._csv import Table
from fastnn.data.dataset import MAX_BYTES, check_header, choose, filling, first_bad, shown

_INDEX = re.compile(r"__index_level_\d+__")  # what pandas adds


def read(path: str, kind: str) -> Any:
    """The table in a Parquet or an Arrow IPC file; all of it is validated."""
    pa = library("Parquet and Arrow files")
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            file = pq.ParquetFile(path)
            rows, columns = file.metadata.num_rows, file.metadata.num_columns
            if rows * columns * 8 > MAX_BYTES:
                raise ValueError(
                    f"{path}: expected at most {MAX_BYTES // 8} numbers, got {rows} x {columns}"
                )
            table = file.read()
        else:
            with pa.OSFile(path) as source:
                table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        str(table.schema)  # names are decoded only when they are asked for
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = "a Parquet" if kind == ".parquet" else "an Arrow IPC"
        text = shown((str(error).splitlines() or [""])[0])
        raise ValueError(f"{path}: expected {what} file, got a damaged one: {text}") from None
    return table


def library(what: str) -> Any:
    """pyarrow, or which extra brings it."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"data: {what} need pyarrow; install it with: pip install 'fastnn[train]'"
        ) from None
    return pyarrow


def numbers(
    path: str, table: Any, label: str | None, features: tuple[str, ...] | None, missing: bool
) -> Table:
    """The columns of a table as numbers, and its label column.

    Raises:
        ValueError: If a column does not hold numbers, or a cell is missing or not finite.
    """
    pa = library("tables")
    header = [name for name in table.column_names if not _INDEX.fullmatch(name)]
    check_header(path, header)
    names = choose(path, header, label, features)
    if table.num_rows == 0:
        raise ValueError(f"{path}: expected rows, got none")
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    x = np.empty((table.num_rows, len(names)), np.float64)
    for i, name in enumerate(names):
        column = table.column(name)
        if not any(check(column.type) for check in numeric):
            raise ValueError(
                f"{path}: expected numbers in column {shown(name)}, got {str(column.type)[:80]}"
            )
        if not missing:
            _check_whole(path, name, column)
        x[:, i] = column.cast(pa.float64(), safe=False).to_numpy()
    bad = first_bad(x, missing)
    if bad is not None:
        raise ValueError(
            f"{path}: expected finite numbers, got {x[bad]} in row {bad[0]}, column "
            f"{shown(names[bad[1]])}{filling(x[bad])}"
        )
    return Table(x, _labels(path, pa, table, label), names)


def _labels(path: str, pa: Any, table: Any, label: str | None) -> Any:
    if label is None or label not in table.column_names:
        return None
    column = table.column(label)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_kind(kind) for is_kind in (*texts, pa.types.is_integer, pa.types.is_boolean)):
        raise ValueError(
            f"{path}: expected texts or integers in the label column {shown(label)}, got "
            f"{str(kind)[:80]}"
        )
    _check_whole(path, label, column)
    return np.array(column.to_pylist())


def _check_whole(path: str, name: str, column: Any) -> None:
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise ValueError(
            f"{path}: expected a value in each row, got a missing one in row {row}, column "
            f"{shown(name)}"
        )
