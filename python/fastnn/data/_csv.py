"""CSV and TSV by pyarrow, in blocks of whole rows. A block that it refuses is read again, slowly.

So a bad cell is named by line and column as soon as pyarrow meets it, and a file larger than memory
takes no more of it than a block.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from fastnn.data._columns import MISSING, Columns, Table, encoded, is_date
from fastnn.data.dataset import filling, shown

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf(inity)?)", re.I | re.A
)
_BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 22  # bytes in which the header ends
_CELLS = 100_000  # of the first rows, which say what columns hold
_BLOCK = 1 << 24  # bytes that are parsed at a time, by all threads
_SMALL = 1 << 18  # bytes that the slow reader looks at
_LONGEST = 1 << 26  # a row may have


@dataclasses.dataclass(frozen=True)
class _File:
    """A file whose header was read.

    Attributes:
        path: Of the file.
        delimiter: Between cells.
        want: What is wanted of it.
        header: Names of all columns.
        names: Those of the features.
        texts: Those of the features that hold categories.
        label: The label column, if it is there.
        start: Bytes before the first row.
        line: Of the first row.
    """

    path: str
    delimiter: str
    want: Columns
    header: list[str]
    names: tuple[str, ...]
    texts: frozenset[str]
    label: str | None
    start: int
    line: int

    @functools.cached_property
    def numbers(self) -> frozenset[str]:
        """The features that hold numbers."""
        return frozenset(self.names) - self.texts

    @property
    def needs_label(self) -> bool:
        """Whether no label may be missing: where features are given, it is to predict."""
        return self.label is not None and self.want.features is None


def read(path: str, want: Columns) -> Table:
    """Read all of a file."""
    pa, _ = _library()
    file = _open(path, want)
    return _table(file, pa.concat_tables(_parts(file, _BLOCK, True)))


def stream(path: str, want: Columns, block_bytes: int) -> Iterator[Table]:
    """The same in parts, of which one is in memory at a time."""
    _library()
    file = _open(path, want)
    for part in _parts(file, block_bytes, False):
        yield _table(file, part)


def line_of(path: str, row: int) -> int:
    """The line of a row below the header."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = enumerate(_rows(file, _delimiter(path)))
        return next((line for i, (line, _) in rows if i == row + 1), row + 2)


def _library() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import csv as arrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data: CSV files need pyarrow; install it with: pip install 'fastnn[train]'"
        ) from None
    return pa, arrow


# ---- header and blocks -------------------------------------------------------------------------


def _delimiter(path: str) -> str:
    return "\t" if path.lower().endswith(".tsv") else ","


def mixed(path: str) -> dict[str, tuple[str, int]]:
    """Columns with texts among numbers, as far as the first rows show: the first text, its line."""
    _, header, rows, _ = _head(path)
    return {
        name: seen.first
        for name, seen in _first_cells(rows, header).items()
        if name and seen.first is not None and not seen.is_text
    }


def dates(path: str) -> list[str]:
    """Columns of dates and times, as far as the first rows show."""
    _, header, rows, _ = _head(path)
    return [name for name, seen in _first_cells(rows, header).items() if name and seen.is_date]


def _open(path: str, want: Columns) -> _File:
    start, header, rows, line = _head(path)
    names = want.choose(path, header)
    if want.categories is None:
        cells = _first_cells(rows, header)
        for name in names:
            if cells[name].is_date and (first := cells[name].first):
                want.refuse_dates(path, name, f"{shown(first[0])} in line {first[1]}")
        found = {name for name, seen in cells.items() if seen.is_text}
        found.update(want.categorical)
    else:
        found = set(want.categories)
    texts = frozenset(found.intersection(names))
    label = want.label if want.label in header else None
    return _File(path, _delimiter(path), want, header, names, texts, label, start, line)


def _head(path: str) -> tuple[int, list[str], Iterator[tuple[int, list[str]]], int]:
    """Bytes before the first row, names of columns, the first rows with their lines, its line."""
    delimiter = _delimiter(path)
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    start = len(_BOM) if head.startswith(_BOM) else 0
    lines = head[start:].splitlines(keepends=True)
    try:
        line, header = next(_rows((text.decode() for text in lines), delimiter), (0, None))
    except csv.Error as error:
        raise ValueError(f"{path}: expected a header line, got a damaged one: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#04x}"
        ) from None
    if header is None:
        raise ValueError(f"{path}: expected a header line, got an empty file")
    if len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
        raise ValueError(
            f"{path}: expected cells divided by {delimiter!r}, got one column with {other[0]!r} in "
            "its name; .tsv is for tabs, .csv for commas"
        )
    start += sum(map(len, lines[:line]))
    rows = _rows((text.decode(errors="replace") for text in lines[line:]), delimiter)
    return start, header, ((line + i, cells) for i, cells in rows), line + 1


@dataclasses.dataclass
class _Seen:
    """Of a column in the first rows: how many cells are there, how many of them are numbers and
    how many dates, and the first that is no number, with its line."""

    there: int = 0
    numbers: int = 0
    dates: int = 0
    first: tuple[str, int] | None = None

    @property
    def is_text(self) -> bool:
        """Fewer than half are numbers: if it took but one text, a typing error would do."""
        return 2 * self.numbers < self.there

    @property
    def is_date(self) -> bool:
        return self.is_text and 2 * self.dates >= self.there


def _first_cells(rows: Iterator[tuple[int, list[str]]], header: list[str]) -> dict[str, _Seen]:
    columns = [_Seen() for _ in header]
    with contextlib.suppress(csv.Error):  # which will be met again, and said
        for line, cells in itertools.islice(rows, max(10, _CELLS // len(header))):
            for column, cell in zip(columns, cells, strict=False):
                text = cell.strip(" \t")
                if text in MISSING:
                    continue
                column.there += 1
                if _NUMBER.fullmatch(text):
                    column.numbers += 1
                    continue
                column.dates += is_date(text)
                column.first = column.first or (cell, line)
    return dict(zip(header, columns, strict=True))


def _blocks(file: _File, source: BinaryIO, line: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of whole rows of about this size, and the line in which each begins."""
    rest = b""
    while more := source.read(max(size, len(rest))):
        block = rest + more
        end = _last_end(block, file.delimiter)
        if end == 0 and len(block) > _LONGEST:
            raise ValueError(
                f"{file.path}: expected rows of at most {_LONGEST >> 20} MiB, got a longer one in "
                f"line {line}; is a quote not closed?"
            )
        if end:
            yield line, block[:end]
            line += _count_lines(block, end)
        rest = block[end:]
    if rest:
        yield line, rest


def _last_end(block: bytes, delimiter: str) -> int:
    """Bytes before the last line end that is in no quoted cell."""
    newline = b"\n" if b"\n" in block else b"\r"
    stop = len(block) - (newline == b"\r")  # a \n may follow
    if b'"' not in block:
        return block.rfind(newline, 0, stop) + 1
    text = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    opening = quotes[::2]
    begins = np.isin(text[opening - 1], list(f'"\r\n{delimiter}'.encode())) | (opening == 0)
    if begins.all():  # every other quote opens a cell, or it is the second of two within one
        ends = np.flatnonzero(text[:stop] == ord(newline))
        outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
        return int(outside[-1]) + 1 if len(outside) else 0
    # There are quotes within cells, which mean nothing.
    quoted = re.compile(rb'(?:(?<=[\r\n%s])|\A)"(?:[^"]+|"")*("|\Z)' % delimiter.encode())
    end = at = 0
    for cell in quoted.finditer(block):
        end = max(end, block.rfind(newline, at, cell.start()) + 1)
        at = cell.end()
    return max(end, block.rfind(newline, at, stop) + 1)


def _count_lines(block: bytes, end: int) -> int:
    lines = block.count(b"\n", 0, end)
    if b"\r" in block:
        lines += block.count(b"\r", 0, end) - block.count(b"\r\n", 0, end)
    return lines


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty; lines are those of this text."""
    reader = csv.reader((line.replace("\0", "\ufffd") for line in lines), delimiter=delimiter)
    for cells in reader:
        if cells:
            yield reader.line_num, cells


# ---- cells -------------------------------------------------------------------------------------


def _parts(file: _File, size: int, threads: bool) -> Iterator[Any]:
    """Blocks of the file as tables of pyarrow, with good cells."""
    rows = 0
    size = min(size, os.path.getsize(file.path))  # read() takes the memory before it reads
    with open(file.path, "rb") as source:
        source.seek(file.start)
        for line, block in _blocks(file, source, file.line, size):
            why, part = _parse(file, block, threads)
            if why:
                raise ValueError(f"{file.path}: {_explain(file, line, block) or why}")
            rows += part.num_rows
            if part.num_rows:
                yield part
    if rows == 0:
        raise ValueError(f"{file.path}: expected rows below the header, got none")


def _parse(file: _File, block: bytes, threads: bool) -> tuple[str, Any]:
    """What is wrong with a block, in a few words or '', and its table."""
    pa, arrow = _library()
    import pyarrow.compute as pc

    types = dict.fromkeys(file.names, pa.float64())
    types.update(dict.fromkeys(file.texts, pa.dictionary(pa.int32(), pa.string())))
    if file.label is not None:
        types[file.label] = pa.string()
    reading = arrow.ReadOptions(
        column_names=file.header,
        use_threads=threads,
        block_size=1 << 20 if threads else len(block) + 1,
    )
    parse = arrow.ParseOptions(delimiter=file.delimiter, newlines_in_values=b'"' in block)
    convert = arrow.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=list(MISSING) if file.want.missing else [],
        strings_can_be_null=False,
    )
    try:
        table = arrow.read_csv(pa.BufferReader(block), reading, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        return str(error), None
    for name in file.numbers:
        column = table.column(name).to_numpy()
        if not (~np.isinf(column) if file.want.missing else np.isfinite(column)).all():
            return f"expected finite numbers in column {shown(name)}", None
    if file.needs_label and pc.any(pc.equal(table.column(file.label), "")).as_py():
        return "expected a label in each row", None
    return "", table


def _explain(file: _File, line: int, block: bytes) -> str:
    """What is wrong first in a block that begins in this line; '' if nothing is found."""
    for first, piece in _blocks(file, io.BytesIO(block), line, _SMALL):
        if _parse(file, piece, False)[0]:
            try:
                text = io.StringIO(piece.decode(), newline="")
                rows = _rows(text, file.delimiter)
                found = (_wrong(file, first - 1 + i, cells) for i, cells in rows)
                return next((what for what in found if what), "")
            except UnicodeDecodeError as error:
                at = first + _count_lines(piece, error.start)
                return f"expected UTF-8, got byte {piece[error.start]:#04x} in line {at}"
            except csv.Error as error:
                return str(error)
    return ""


def _wrong(file: _File, line: int, cells: list[str]) -> str:
    """What is wrong in a row, or ''."""
    if len(cells) != len(file.header):
        return f"expected {len(file.header)} columns, got {len(cells)} in line {line}"
    for name, cell in zip(file.header, cells, strict=True):
        text, where = cell.strip(" \t"), f"in line {line}, column {shown(name)}"
        if name == file.label and cell == "" and file.needs_label:
            return f"expected a label in each row, got an empty cell {where}"
        if name not in file.numbers or (file.want.missing and text in MISSING):
            continue
        if not _NUMBER.fullmatch(text):
            what = shown(cell) if cell.strip() else "an empty cell"
            return f"expected a number, got {what} {where}{_hint(file, text, shown(name))}"
        value = float(text)
        if not (math.isfinite(value) or (file.want.missing and math.isnan(value))):
            return f"expected finite numbers, got {value} {where}{filling(value)}"
    return ""


def _hint(file: _File, text: str, name: str) -> str:
    if text in MISSING:
        return filling(math.nan)
    fix = f"; if these are categories: data.categorical={name[1:-1]}, categorical=[{name}]"
    return fix if file.want.categories is None else ""


def _table(file: _File, part: Any) -> Table:
    """The numbers and codes of rows."""
    x = np.empty((part.num_rows, len(file.names)), np.float64)
    categories = {}
    for i, name in enumerate(file.names):
        column = part.column(name)
        if name in file.texts:
            pieces = ((c.dictionary.to_pylist(), c.indices.to_numpy()) for c in column.chunks)
            x[:, i], categories[name] = encoded(pieces, file.want.known(name))
        else:
            x[:, i] = column.to_numpy()
    labels = None if file.label is None else np.array(part.column(file.label).to_pylist())
    return Table(x, labels, file.names, categories)
