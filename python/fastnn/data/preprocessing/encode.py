"""Categories as numbers: classes as indices, codes as columns of 0 and 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number, places

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LabelEncoder", "OneHotEncoder", "encode", "in_order"]

Indices = np.ndarray[Any, np.dtype[np.int64]]


def encode(labels: Array) -> tuple[Indices, tuple[str, ...]]:
    """Labels as indices into their sorted classes, and the names of the classes.

    Texts that are all integers sort as numbers.

    Example:
        >>> import numpy as np
        >>> from fastnn.data.preprocessing.encode import encode
        >>> encode(np.array(["10", "9", "10"]))
        (array([1, 0, 1]), ('9', '10'))
    """
    classes, y = np.unique(labels, return_inverse=True)
    names = [str(c) for c in classes]
    if classes.dtype.kind in "UO":
        order = in_order(names)
        y = np.argsort(order)[y]
        names = [names[i] for i in order]
    return y.astype(np.int64), tuple(names)


def in_order(names: Sequence[str]) -> list[int]:
    """The indices that sort names: as numbers, if all are integers.

    Example:
        >>> from fastnn.data.preprocessing.encode import in_order
        >>> in_order(["10", "9"]), in_order(["10", "9", "a"])
        ([1, 0], [0, 1, 2])
    """
    if all(_is_integer(name) for name in names):
        return sorted(range(len(names)), key=lambda i: int(names[i]))
    return sorted(range(len(names)), key=lambda i: names[i])


def _is_integer(text: str) -> bool:
    digits = text[1:] if text[:1] == "-" else text
    return digits.isascii() and digits.isdigit() and len(digits) < 19


class LabelEncoder:
    """Labels as indices 0, 1, ... into the sorted classes of the training data, and back.

    Args:
        classes: The names of the classes, if they are known; then it need not be fitted.

    Attributes:
        classes_: Names of the classes; None before ``fit``.

    Example:
        >>> from fastnn.data import LabelEncoder
        >>> encoder = LabelEncoder().fit(["dog", "cat", "dog"])
        >>> encoder.classes_, encoder.transform(["dog", "cat"]).tolist()
        (('cat', 'dog'), [1, 0])
        >>> encoder.inverse_transform([0, 1])
        ('cat', 'dog')
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self.classes_ = None if classes is None else tuple(str(name) for name in classes)
        if self.classes_ is not None and len(set(self.classes_)) < len(self.classes_):
            raise ValueError("LabelEncoder: expected each class once")

    def fit(self, y: ArrayLike) -> LabelEncoder:
        """Learn the classes, once.

        Raises:
            ValueError: If the classes are known already, or y is not of shape (n,).
        """
        if self.classes_ is not None:
            raise ValueError(
                "LabelEncoder: expected one fit, on the training data, got a second one; "
                "make a new one"
            )
        self.classes_ = encode(_labels(y))[1]
        return self

    def transform(self, y: ArrayLike) -> Indices:
        """The indices of labels.

        Raises:
            ValueError: For a label that the training data do not have; the message says where.
        """
        names = [str(label) for label in _labels(y)]
        index = {name: i for i, name in enumerate(self._fitted())}
        unknown = next((i for i, name in enumerate(names) if name not in index), None)
        if unknown is not None:
            raise ValueError(
                f"LabelEncoder: expected one of the {len(index)} classes of the training data, "
                f"got {names[unknown][:80]!r} at y[{unknown}]"
            )
        return np.array([index[name] for name in names], np.int64)

    def inverse_transform(self, y: ArrayLike) -> tuple[str, ...]:
        """The names of classes with these indices.

        Raises:
            ValueError: For an index out of range.
        """
        classes, indices = self._fitted(), np.asarray(y)
        bad = (indices < 0) | (indices >= len(classes))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(
                f"LabelEncoder: expected 0 <= y < {len(classes)}, got {indices[at]} at y[{at}]"
            )
        return tuple(classes[i] for i in indices)

    def _fitted(self) -> tuple[str, ...]:
        if self.classes_ is None:
            raise ValueError("LabelEncoder: expected a fitted encoder, got an unfitted one")
        return self.classes_


def _labels(y: ArrayLike) -> Array:
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"LabelEncoder: expected y of shape (n,), not empty, got {labels.shape}")
    return labels


@dataclasses.dataclass(eq=False)
class OneHotEncoder(Transform):
    """Columns of codes become columns of 0 and 1, one for each code of the training data.

    The other columns come first, unchanged; the new ones follow in the order of ``columns``.

    Args:
        columns: Which columns hold codes; default: all.
        handle_unknown: What a code does that the training data do not have: ``"error"``, or
            ``"ignore"`` for zeros in all its columns.

    Attributes:
        codes_: The codes of all columns one after another, each column's sorted.
        counts_: How many of them each column has.
        width_: Features of the training data.

    Example:
        >>> from fastnn.data import OneHotEncoder
        >>> OneHotEncoder(columns=(0,)).fit_transform([[7, 0.5], [3, 1.5], [7, 2.5]])
        array([[0.5, 0. , 1. ],
               [1.5, 1. , 0. ],
               [2.5, 0. , 1. ]])
    """

    columns: Sequence[int] | None = None
    handle_unknown: str = "error"
    codes_: Floats = number("codes")
    counts_: Floats = number("columns")
    width_: Floats = number()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns is not None:
            self.columns = places("OneHotEncoder", self.columns)
        if self.handle_unknown not in ("error", "ignore"):
            raise ValueError(
                "OneHotEncoder: expected handle_unknown 'error' or 'ignore', got "
                f"{str(self.handle_unknown)[:80]!r}"
            )

    @property
    def categories_(self) -> list[Floats]:
        """The codes of each column."""
        return np.split(self.codes_, np.cumsum(self.counts_[:-1]).astype(int))

    def _chosen(self, width: int) -> list[int]:
        chosen = list(range(width) if self.columns is None else self.columns)
        if max(chosen) >= width:
            raise ValueError(
                f"OneHotEncoder: expected columns below {width}, the width of x, got {max(chosen)}"
            )
        return chosen

    def _fit(self, x: Array) -> dict[str, Any]:
        codes = [np.unique(x[:, column]) for column in self._chosen(x.shape[1])]
        return {
            "codes_": np.concatenate(codes),
            "counts_": [len(c) for c in codes],
            "width_": x.shape[1],
        }

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        width = int(self.width_)
        return (width,), (width - len(self.counts_) + len(self.codes_),)

    def _apply(self, x: Floats) -> Floats:
        chosen = self._chosen(x.shape[1])
        parts = [np.delete(x, chosen, axis=1)]
        for column, codes in zip(chosen, self.categories_, strict=True):
            hot = x[:, column, None] == codes
            known = hot.any(1)
            if self.handle_unknown == "error" and not known.all():
                row = int(known.argmin())
                raise ValueError(
                    f"OneHotEncoder: expected one of the {len(codes)} codes of the training data "
                    f"in column {column}, got {x[row, column]} at row {row}"
                )
            parts.append(hot.astype(np.float64))
        return np.concatenate(parts, axis=1)

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        counts, width = numbers["counts_"], numbers["width_"]
        whole = all((v % 1 == 0).all() and (v >= 1).all() for v in (counts, width))
        if not whole or width >= 1 << 31:
            raise ValueError("OneHotEncoder: expected whole numbers in counts_ and width_")
        if len(self._chosen(int(width))) != len(counts) or counts.sum() != len(numbers["codes_"]):
            raise ValueError("OneHotEncoder: expected counts_ that add up to codes_")
