"""Categories of training data: what may become columns, and what other data have beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data import _csv
from fastnn.data.dataset import Dataset, shown

__all__ = [
    "Unknown",
    "check_categories",
    "find_unknown",
    "known_first",
    "row_numbers",
    "too_many",
    "where",
]

_FEW, _MANY = 20, 1000


@dataclasses.dataclass(frozen=True)
class Unknown:
    """Categories of a column that the training data do not have.

    Attributes:
        column: Its name.
        known: How many categories the training data have there.
        category: The first that is unknown.
        row: Where it stands.
        cells: How many cells hold an unknown one.
    """

    column: str
    known: int
    category: str
    row: int
    cells: int

    def describe(self, source: str) -> str:
        """What was expected in this source, and what it has, in words."""
        what = shown(self.category) if self.category else "an empty cell"
        return (
            f"{source}: expected one of the {self.known} categories of the training data in column "
            f"{shown(self.column)}, got {what} in {where(source, self.row)}"
        )


def check_categories(dataset: Dataset) -> None:
    """Refuse a column that has so many categories that it rather names its rows.

    Raises:
        ValueError: If there is one; the message says which, and what to do.

    Example:
        >>> import pyarrow as pa
        >>> from fastnn.data import load
        >>> from fastnn.data.categories import check_categories
        >>> check_categories(load(pa.table({"id": [f"person {i}" for i in range(30)]})))
        Traceback (most recent call last):
        ...
        ValueError: frame: expected at most 20 categories in a column of 30 rows, got 30 in 'id'; leave such columns out (data.drop=id) or make numbers of them
    """  # noqa: E501
    names = too_many(dataset)
    if names:
        got = ", ".join(f"{len(dataset.categories[n])} in {shown(n)}" for n in names[:5])
        raise ValueError(
            f"{dataset.name}: expected at most {_most(dataset)} categories in a column of "
            f"{len(dataset.x)} rows, got {got}{' and more' * (len(names) > 5)}; leave "
            f"such columns out (data.drop={','.join(names)}) or make numbers of them"
        )


def too_many(dataset: Dataset) -> list[str]:
    """The columns that have so many categories that they rather name their rows.

    A column may have 20, or half as many as there are rows, but no more than 1000.

    Example:
        See :func:`check_categories`.
    """
    most = _most(dataset)
    return [name for name, names in dataset.categories.items() if len(names) > most]


def row_numbers(dataset: Dataset) -> list[str]:
    """The columns that number the rows, 20 of them at least: each 1 more than the one before.

    Example:
        >>> import pyarrow as pa
        >>> from fastnn.data import load
        >>> from fastnn.data.categories import row_numbers
        >>> row_numbers(load(pa.table({"id": range(7, 37), "a": [0, 1, 2] * 10})))
        ['id']
    """
    if len(dataset.x) < _FEW or dataset.shape:
        return []
    first, last = dataset.x[0], dataset.x[-1]
    perhaps = [i for i in dataset.numeric if last[i] - first[i] == len(dataset.x) - 1]
    return [dataset.features[i] for i in perhaps if (np.diff(dataset.x[:, i]) == 1).all()]


def _most(dataset: Dataset) -> int:
    return max(_FEW, min(len(dataset.x) // 2, _MANY))


def known_first(
    dataset: Dataset, rows: np.ndarray[Any, Any]
) -> tuple[Dataset, dict[str, tuple[str, ...]]]:
    """The data with codes that depend on some rows alone, and the categories of these rows.

    Args:
        dataset: Any.
        rows: Indices of the training data.

    Example:
        >>> import numpy as np, pyarrow as pa
        >>> from fastnn.data import load
        >>> from fastnn.data.categories import known_first
        >>> dataset, known = known_first(load(pa.table({"a": ["x", "y", "z"]})), np.array([2, 1]))
        >>> dataset.x.ravel().tolist(), dataset.categories, known
        ([2.0, 0.0, 1.0], {'a': ('y', 'z', 'x')}, {'a': ('y', 'z')})
    """
    if not dataset.categories:
        return dataset, {}
    x, categories, known = dataset.x.copy(), {}, {}
    for i in dataset.categorical:
        name = dataset.features[i]
        names, codes = dataset.categories[name], dataset.x[:, i].astype(np.int64)
        seen = np.unique(codes[rows])
        order = np.concatenate([seen, np.setdiff1d(np.arange(len(names)), seen)])
        x[:, i] = np.argsort(order)[codes]
        categories[name] = tuple(names[j] for j in order)
        known[name] = categories[name][: len(seen)]
    return dataclasses.replace(dataset, x=x, categories=categories), known


def find_unknown(dataset: Dataset, known: Mapping[str, Sequence[str]]) -> Iterator[Unknown]:
    """For each column with other categories than those known: which, and where.

    Args:
        dataset: Its codes are those of :func:`known_first`, or it was loaded with ``categories``.
        known: Categories of the training data by column.

    Example:
        >>> import pyarrow as pa
        >>> from fastnn.data import load
        >>> from fastnn.data.categories import find_unknown
        >>> dataset = load(pa.table({"a": ["y", "z", "x"]}), categories={"a": ("x", "y")})
        >>> [(u.column, u.category, u.row) for u in find_unknown(dataset, {"a": ("x", "y")})]
        [('a', 'z', 1)]
    """
    for i in dataset.categorical:
        name = dataset.features[i]
        bad = np.flatnonzero(dataset.x[:, i] >= len(known[name]))
        if len(bad):
            category = dataset.categories[name][int(dataset.x[bad[0], i])]
            yield Unknown(name, len(known[name]), category, int(bad[0]), len(bad))


def where(source: str, row: int) -> str:
    """The place of a row in words: its line in a CSV.

    Example:
        >>> from fastnn.data.categories import where
        >>> where("d.parquet", 3)
        'row 3'
    """
    if source.lower().endswith((".csv", ".tsv")):
        return f"line {_csv.line_of(source, row)}"
    return f"row {row}"
