"""Tables by pyarrow: Parquet, Arrow IPC (Feather), and data frames of other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.data._columns import MISSING, Columns, Table, encoded, is_date, setting
from fastnn.data.dataset import MAX_BYTES, filling, first_bad, shown


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


def columns(path: str, table: Any, want: Columns) -> Table:
    """The columns of a table as numbers and codes, and its label column.

    Raises:
        ValueError: If a column holds neither numbers nor categories, or a number is missing or not
            finite.
    """
    pa = library("tables")
    names = want.choose(path, table.column_names)
    if table.num_rows == 0:
        raise ValueError(f"{path}: expected rows, got none")
    x = np.empty((table.num_rows, len(names)), np.float64)
    categories = {}
    for i, name in enumerate(names):
        column = table.column(name)
        if _holds_categories(pa, column.type, name, want):
            pieces = list(_pieces(pa, column))
            _refuse_texts_of_dates(path, pa, name, column.type, pieces, want)
            x[:, i], categories[name] = encoded(pieces, want.known(name))
            continue
        if pa.types.is_temporal(column.type):
            want.refuse_dates(path, name, str(column.type))
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise ValueError(
                f"{path}: expected numbers in column {shown(name)}, got {str(column.type)[:80]}"
                + (f"; to leave it out: {setting('drop', name)}" if want.categories is None else "")
            )
        if not want.missing:
            _check_whole(path, name, column)
        x[:, i] = column.cast(pa.float64(), safe=False).to_numpy()
    bad = first_bad(x, want.missing)
    if bad is not None:
        raise ValueError(
            f"{path}: expected finite numbers, got {x[bad]} in row {bad[0]}, column "
            f"{shown(names[bad[1]])}{filling(x[bad])}"
        )
    return Table(x, _labels(path, pa, table, want), names, categories)


def _holds_categories(pa: Any, kind: Any, name: str, want: Columns) -> bool:
    """Texts, booleans and what a data frame calls a category; and what was named."""
    if want.categories is not None:
        return name in want.categories
    if name in want.categorical:
        return True
    types = pa.types
    kinds = (types.is_dictionary, types.is_boolean, *_texts(pa))
    return any(is_kind(kind) for is_kind in kinds)


def _refuse_texts_of_dates(
    path: str, pa: Any, name: str, kind: Any, pieces: list[Any], want: Columns
) -> None:
    """What is said of a column of dates, if it is one of texts and half of them are dates."""
    if any(is_kind(kind) for is_kind in _texts(pa)):
        texts = [text for text in pieces[0][0] if text not in (*MISSING, None)]
        dates = [text for text in texts if is_date(text)]
        if dates and 2 * len(dates) >= len(texts):
            want.refuse_dates(path, name, shown(dates[0]))


def dates(table: Any) -> list[str]:
    """The columns of dates and times, by their types."""
    pa = library("tables")
    return [f.name for f in table.schema if pa.types.is_temporal(f.type)]


def _texts(pa: Any) -> tuple[Any, ...]:
    return pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view


def _pieces(pa: Any, column: Any) -> Iterator[tuple[list[str | None], np.ndarray[Any, Any]]]:
    """Texts of each chunk, and for each cell the index of its own; what is missing has the last."""
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(pa.string()).dictionary_encode()
        texts = chunk.dictionary.cast(pa.string()).to_pylist()
        yield [*texts, None], chunk.indices.cast(pa.int64()).fill_null(len(texts)).to_numpy()


def _labels(path: str, pa: Any, table: Any, want: Columns) -> Any:
    label = want.label
    if label is None or label not in table.column_names:
        return None
    column = table.column(label)
    if want.features is not None and column.null_count:
        return None
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    kinds = (*_texts(pa), pa.types.is_integer, pa.types.is_boolean)
    if not any(is_kind(kind) for is_kind in kinds):
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
