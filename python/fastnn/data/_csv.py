"""CSV and TSV by pyarrow. When it refuses a file, a second, slow reader finds line and column."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.data.dataset import check_header, choose, filling, first_bad, shown

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf(inity)?)", re.I | re.A
)
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "?")  # what a missing cell may hold


@dataclasses.dataclass(frozen=True)
class Table:
    """The numbers of a CSV, float64 (n, features), and the texts of its label column."""

    x: np.ndarray[Any, np.dtype[np.float64]]
    labels: np.ndarray[Any, Any] | None
    features: tuple[str, ...]


def read(
    path: str, label: str | None, features: tuple[str, ...] | None, missing: bool, delimiter: str
) -> Table:
    """Read the columns named, all others than the label by default; NaN for a missing cell."""
    pa, arrow = _library()
    header = _header(path, delimiter)
    names = choose(path, header, label, features)
    with_label = label if label in header else None
    parse, convert = _options(arrow, pa, names, with_label, missing, delimiter)
    try:
        table = arrow.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        why = _explain(path, delimiter, header, set(names), MISSING if missing else ())
        raise ValueError(why or f"{path}: {error}") from None
    if table.num_rows == 0:
        raise ValueError(f"{path}: expected rows below the header, got none")
    return _numbers(path, table, names, with_label, missing, delimiter, 0)


def stream(
    path: str,
    label: str | None,
    features: tuple[str, ...] | None,
    missing: bool,
    delimiter: str,
    block_bytes: int,
) -> Iterator[Table]:
    """The same in parts, of which one is in memory at a time."""
    pa, arrow = _library()
    header = _header(path, delimiter)
    names = choose(path, header, label, features)
    with_label = label if label in header else None
    parse, convert = _options(arrow, pa, names, with_label, missing, delimiter)
    # Read ahead on one thread: several would hold as many blocks.
    reading = arrow.ReadOptions(use_threads=False, block_size=block_bytes)
    done = 0
    try:
        reader = arrow.open_csv(
            path, read_options=reading, parse_options=parse, convert_options=convert
        )
        for batch in reader:
            if batch.num_rows:
                yield _numbers(path, batch, names, with_label, missing, delimiter, done)
            done += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        why = _explain(path, delimiter, header, set(names), MISSING if missing else ())
        raise ValueError(why or f"{path}: {error}") from None
    if done == 0:
        raise ValueError(f"{path}: expected rows below the header, got none")


def _library() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import csv as arrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data: CSV files need pyarrow; install it with: pip install 'fastnn[train]'"
        ) from None
    return pa, arrow


def _options(
    arrow: Any, pa: Any, names: tuple[str, ...], label: str | None, missing: bool, delimiter: str
) -> tuple[Any, Any]:
    types = dict.fromkeys(names, pa.float64())
    if label is not None:
        types[label] = pa.string()
    convert = arrow.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=list(MISSING) if missing else [],
        strings_can_be_null=False,
    )
    return arrow.ParseOptions(delimiter=delimiter), convert


def _numbers(
    path: str,
    table: Any,
    names: tuple[str, ...],
    label: str | None,
    missing: bool,
    delimiter: str,
    before: int,
) -> Table:
    """A part of the file that has so many rows before it."""
    x = np.empty((table.num_rows, len(names)), np.float64)
    for i, name in enumerate(names):
        x[:, i] = table.column(name).to_numpy(zero_copy_only=False)
    bad = first_bad(x, missing)
    if bad is not None:
        line, name = _line(path, delimiter, before + bad[0]), shown(names[bad[1]])
        raise ValueError(
            f"{path}: expected finite numbers, got {x[bad]} in line {line}, column {name}"
            f"{filling(x[bad])}"
        )
    labels = None if label is None else np.array(table.column(label).to_pylist())
    return Table(x, labels, names)


def _header(path: str, delimiter: str) -> list[str]:
    try:
        header = next(_rows(path, delimiter), None)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#04x}"
        ) from None
    if header is None:
        raise ValueError(f"{path}: expected a header line, got an empty file")
    check_header(path, header[1])
    return header[1]


def _rows(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty, the header first."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = (line.replace("\0", "\ufffd") for line in file)
        reader = csv.reader(lines, delimiter=delimiter)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def _explain(
    path: str, delimiter: str, header: list[str], numeric: set[str], missing: tuple[str, ...]
) -> str:
    """What is wrong first, with line and column; '' if this reader finds nothing."""
    try:
        rows = _rows(path, delimiter)
        next(rows)
        for line, cells in rows:
            if len(cells) != len(header):
                return f"{path}: expected {len(header)} columns, got {len(cells)} in line {line}"
            for name, cell in zip(header, cells, strict=True):
                text = cell.strip(" \t")
                if name in numeric and text not in missing and not _NUMBER.fullmatch(text):
                    what, hint = shown(cell), ""
                    if not cell.strip():
                        what, hint = "an empty cell", filling(np.nan)
                    where = f"in line {line}, column {shown(name)}"
                    return f"{path}: expected a number, got {what} {where}{hint}"
    except (UnicodeDecodeError, csv.Error) as error:
        return f"{path}: {error}"
    return ""


def _line(path: str, delimiter: str, row: int) -> int:
    """The line of a row below the header."""
    rows = enumerate(_rows(path, delimiter))
    return next((line for i, (line, _) in rows if i == row + 1), row + 2)
