"""A set of values in a few numbers and a histogram, and tables of them in plain text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Summary", "format_table", "number", "summarize"]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean, standard deviation, range and histogram of values.

    Attributes:
        mean: The mean, in float64; NaN or infinite where a value is.
        std: The standard deviation (of all values there are, ddof = 0).
        min: The least value.
        max: The largest value.
        zeros: Share of values that are exactly 0.
        nonfinite: Share of values that are NaN or infinite.
        counts: Finite values per bin.
        edges: Edges of the bins, one more than there are bins.
    """

    mean: float
    std: float
    min: float
    max: float
    zeros: float
    nonfinite: float
    counts: np.ndarray[Any, Any]
    edges: np.ndarray[Any, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same in plain Python.

        Example:
            >>> from fastnn.inspect.summary import summarize
            >>> summarize([0.0, 1.0], bins=2).to_dict()["counts"]
            [1, 1]
        """
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in vars(self).items()
        }


def summarize(values: Any, bins: int = 50) -> Summary:
    """The summary of an array or Tensor on any device.

    Example:
        >>> from fastnn.inspect.summary import summarize
        >>> summarize([-1.0, 0.0, 0.0, 1.0]).zeros
        0.5
    """
    source = values.detach().to("cpu") if hasattr(values, "detach") else values
    x = np.asarray(source, np.float64).ravel()
    finite = x[np.isfinite(x)]
    counts, edges = np.histogram(finite, bins)
    if not x.size:
        nan = float("nan")
        return Summary(nan, nan, nan, nan, 0.0, 0.0, counts, edges)
    with np.errstate(invalid="ignore"):  # infinities of both signs
        mean, std = float(x.mean()), float(x.std())
    zeros, nonfinite = float((x == 0).mean()), 1 - finite.size / x.size
    return Summary(mean, std, float(x.min()), float(x.max()), zeros, nonfinite, counts, edges)


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; a dash where there is none.

    Example:
        >>> from fastnn.inspect.summary import number
        >>> number(0.21336), number(None)
        ('0.2134', '-')
    """
    return "-" if value is None else f"{value:.{digits}g}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns under a header, the first ``left`` to the left and the others to the right.

    Example:
        >>> from fastnn.inspect.summary import format_table
        >>> print(format_table(["layer", "std"], [["0", "1.5"]]))
        layer  std
        0      1.5
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join(lines)
