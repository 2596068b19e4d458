"""CSV by pyarrow. When pyarrow refuses a file, a second, slow reader finds the line and column."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf(inity)?)", re.I | re.A
)
_MAX_COLUMNS = 65_536


@dataclasses.dataclass(frozen=True)
class Table:
    """The numbers of a CSV, float64 (n, features), and the texts of its label column."""

    x: np.ndarray[Any, np.dtype[np.float64]]
    labels: np.ndarray[Any, Any] | None
    features: tuple[str, ...]


def read(path: str, label: str | None, features: tuple[str, ...] | None) -> Table:
    """Read the columns named, all others than the label by default."""
    try:
        import pyarrow as pa
        from pyarrow import csv as arrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data: CSV files need pyarrow; install it with: pip install 'fastnn[train]'"
        ) from None
    header = _header(path)
    names = _choose(path, header, label, features)
    with_label = label if label in header else None
    types = dict.fromkeys(names, pa.float64())
    if with_label is not None:
        types[with_label] = pa.string()
    options = arrow.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
    )
    try:
        table = arrow.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ValueError(_explain(path, header, set(names)) or f"{path}: {error}") from None
    if table.num_rows == 0:
        raise ValueError(f"{path}: expected rows below the header, got none")
    x = np.empty((table.num_rows, len(names)), np.float64)
    for i, name in enumerate(names):
        x[:, i] = table.column(name).to_numpy()
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = np.unravel_index(int(bad.argmax()), bad.shape)
        raise ValueError(
            f"{path}: expected finite numbers, got {x[row, column]} in line "
            f"{_line(path, int(row))}, column {_shown(names[column])}"
        )
    labels = None if with_label is None else np.array(table.column(with_label).to_pylist())
    return Table(x, labels, names)


def _header(path: str) -> list[str]:
    try:
        header = next(_rows(path), None)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#04x}"
        ) from None
    if header is None:
        raise ValueError(f"{path}: expected a header line, got an empty file")
    names = header[1]
    if len(names) > _MAX_COLUMNS:
        raise ValueError(f"{path}: expected at most {_MAX_COLUMNS} columns, got {len(names)}")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{path}: expected each column once, got {_shown(twice)} twice in line 1")
    return names


def _choose(
    path: str, header: list[str], label: str | None, features: tuple[str, ...] | None
) -> tuple[str, ...]:
    if features is None:
        if label is not None and label not in header:
            close = difflib.get_close_matches(label, header, 1)
            hint = f"; did you mean {_shown(close[0])}?" if close else ""
            raise ValueError(
                f"{path}: expected a label column {_shown(label)}, got the columns "
                f"{_list(header)}{hint}"
            )
        names = tuple(name for name in header if name != label)
        if not names:
            raise ValueError(
                f"{path}: expected columns beside the label {_shown(label or '')}, got none"
            )
        return names
    missing = [name for name in features if name not in header]
    unknown = [name for name in header if name not in features and name != label]
    if missing or unknown:
        raise ValueError(
            f"{path}: expected the {len(features)} columns of the training data, got missing "
            f"{_list(missing)} and unknown {_list(unknown)}"
        )
    return features


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty, the header first."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = (line.replace("\0", "\ufffd") for line in file)
        reader = csv.reader(lines)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def _explain(path: str, header: list[str], numeric: set[str]) -> str:
    """What is wrong first, with line and column; '' if this reader finds nothing."""
    try:
        rows = _rows(path)
        next(rows)
        for line, cells in rows:
            if len(cells) != len(header):
                return f"{path}: expected {len(header)} columns, got {len(cells)} in line {line}"
            for name, cell in zip(header, cells, strict=True):
                if name in numeric and not _NUMBER.fullmatch(cell.strip(" \t")):
                    what = "an empty cell" if not cell.strip() else _shown(cell)
                    where = f"in line {line}, column {_shown(name)}"
                    return f"{path}: expected a number, got {what} {where}"
    except (UnicodeDecodeError, csv.Error) as error:
        return f"{path}: {error}"
    return ""


def _line(path: str, row: int) -> int:
    """The line of a row below the header."""
    return next((line for i, (line, _) in enumerate(_rows(path)) if i == row + 1), row + 2)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "[" + ", ".join(_shown(name) for name in names[:5]) + "]" + more
