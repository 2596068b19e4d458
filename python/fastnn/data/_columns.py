"""Which columns of a table are read, and as what: numbers, or categories by their codes.

The code of a category is its place among the names of its column. Names that are known already,
those of the training data, come first, so that a code means the same in every file.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data.dataset import check_header, listed, shown
from fastnn.data.preprocessing.encode import in_order

__all__ = ["MISSING", "Columns", "Table", "encoded", "is_date", "setting"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "?")  # what a missing cell may hold
_INDEX = re.compile(r"|__index_level_\d+__")  # of pandas, in a CSV and elsewhere
_DATE = re.compile(
    r"(\d{4}(?P<a>[-/.])\d{1,2}(?P=a)\d{1,2}|\d{1,2}(?P<b>[-/.])\d{1,2}(?P=b)\d{4})"
    r"([T ]+\d{1,2}:\d{2}.{0,24})?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?",
    re.A,
)
_SPELLINGS = {
    **dict.fromkeys(MISSING, ""),
    **dict.fromkeys(("True", "TRUE"), "true"),
    **dict.fromkeys(("False", "FALSE"), "false"),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """What was read.

    Attributes:
        x: Numbers and codes, float64 (n, features).
        labels: Texts or integers of the label column, (n,).
        features: Names of the columns of x.
        categories: Names of the categories, by column.
    """

    x: np.ndarray[Any, np.dtype[np.float64]]
    labels: np.ndarray[Any, Any] | None
    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is wanted of a table; see :func:`fastnn.data.load_csv` for each."""

    label: str | None = None
    features: tuple[str, ...] | None = None
    missing: bool = False
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    categories: Mapping[str, Sequence[str]] | None = None

    def choose(self, path: str, header: list[str]) -> tuple[str, ...]:
        """The columns of features: those wanted, or all but the label.

        Raises:
            ValueError: If a name stands there twice, there is no such column, or there are columns
                that are not wanted.
        """
        check_header(path, header)
        header = [name for name in header if not _INDEX.fullmatch(name)]
        if self.features is not None:
            return self._as_before(path, header)
        if self.label is not None:
            hint = "give its name: label, --label"
            _find(path, header, "a label column", self.label, hint)
        for name in (*self.drop, *self.categorical):
            what = "a column to leave out" if name in self.drop else "a column of categories"
            _find(path, header, what, name)
        names = tuple(name for name in header if name != self.label and name not in self.drop)
        if not names:
            raise ValueError(
                f"{path}: expected columns beside the label {shown(self.label or '')}, got none"
            )
        return names

    def _as_before(self, path: str, header: list[str]) -> tuple[str, ...]:
        assert self.features is not None
        others = (self.label, *self.drop)
        missing = [name for name in self.features if name not in header]
        unknown = [name for name in header if name not in self.features and name not in others]
        if missing or unknown:
            raise ValueError(
                f"{path}: expected the {len(self.features)} columns of the training data, got "
                f"missing {listed(missing)} and unknown {listed(unknown)}"
            )
        return self.features

    def refuse_dates(self, path: str, name: str, got: str) -> None:
        """Say what to do with dates and times: what matters in them, only the user knows.

        Raises:
            ValueError: Unless the column was named as one of categories, or those are known.
        """
        if self.categories is None and name not in self.categorical:
            raise ValueError(
                f"{path}: expected numbers or categories in column {shown(name)}, got dates or "
                f"times: {got}; to leave it out: {setting('drop', name)}; as categories: "
                f"{setting('categorical', name)}"
            )

    def known(self, name: str) -> Sequence[str]:
        """Categories of a column that are known already."""
        return (self.categories or {}).get(name, ())


def setting(option: str, name: str) -> str:
    """How a column is named on the command line, and in Python.

    Example:
        >>> from fastnn.data._columns import setting
        >>> setting("drop", "day")
        "data.drop=day, drop=['day']"
    """
    return f"data.{option}={shown(name)[1:-1]}, {option}=[{shown(name)}]"


def is_date(text: str) -> bool:
    """Whether a cell is a date, a time or both, in figures.

    Example:
        >>> from fastnn.data._columns import is_date
        >>> [is_date(text) for text in ("2024-01-31 12:00", "31.1.2024", "12:30", "1.5", "Rome")]
        [True, True, True, False, False]
    """
    return _DATE.fullmatch(text) is not None


def _find(path: str, header: list[str], what: str, name: str, hint: str = "") -> None:
    if name not in header:
        close = difflib.get_close_matches(name, header, 1)
        hint = f"did you mean {shown(close[0])}?" if close else hint
        raise ValueError(
            f"{path}: expected {what} {shown(name)}, got the columns {listed(header)}"
            + (f"; {hint}" if hint else "")
        )


def encoded(
    parts: Iterable[tuple[list[str | None], np.ndarray[Any, Any]]], known: Sequence[str]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], tuple[str, ...]]:
    """Codes of a column of texts, and the names of its categories: those known, others sorted.

    Missing cells are a category of their own, named ''. ``True`` and ``TRUE`` are ``true``.

    Args:
        parts: Pieces of the column, as texts that may be there and for each cell the index of its.
        known: Categories of the training data.

    Raises:
        ValueError: If a category is known twice.

    Example:
        >>> import numpy as np
        >>> from fastnn.data._columns import encoded
        >>> codes, names = encoded([(["b", "NA", "a"], np.array([0, 0, 2, 1]))], ["b"])
        >>> codes.tolist(), names
        ([0.0, 0.0, 2.0, 1.0], ('b', '', 'a'))
    """
    places = {name: i for i, name in enumerate(known)}
    if len(places) < len(known):
        raise ValueError(f"data: expected each category once, got {listed(list(known))}")
    pieces = []
    for texts, which in parts:
        table = np.zeros(len(texts), np.int64)
        for i in np.unique(which):
            text = texts[i] or ""
            table[i] = places.setdefault(_SPELLINGS.get(text, text), len(places))
        pieces.append(table[which])
    names = list(places)
    order = [*range(len(known)), *(len(known) + i for i in in_order(names[len(known) :]))]
    codes = np.argsort(order).astype(np.float64)[np.concatenate(pieces)]
    return codes, tuple(names[i] for i in order)
