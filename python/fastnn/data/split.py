"""Splits into parts with the same share of every class. They depend on the seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random
from fastnn._checks import checked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["stratified_split"]

_STREAM = (1 << 64) - 1  # an epoch that no shuffle reaches
Indices = np.ndarray[Any, np.dtype[np.int64]]


@checked
def stratified_split(y: ArrayLike, fraction: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Split the indices of y so that each class gives its share to the second part.

    The second part has round(fraction n) samples; each class contributes its share of them, rounded
    so that the remainders of all classes add up (largest remainder first).

    Args:
        y: Class labels, shape (n,).
        fraction: Size of the second part, 0 <= fraction < 1.
        seed: What the choice within a class depends on.

    Returns:
        The sorted indices of the first and of the second part.

    Raises:
        ValueError: If the fraction is out of range, or a part that was asked for would be empty.

    Example:
        >>> from fastnn.data import stratified_split
        >>> first, second = stratified_split([0, 0, 1, 1, 0, 0, 1, 1], 0.5)
        >>> len(first), len(second)
        (4, 4)
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"stratified_split: expected 0 <= fraction < 1, got {fraction}")
    labels = np.asarray(y)
    n = len(labels)
    total = round(fraction * n)
    if fraction > 0 and not 0 < total < n:
        raise ValueError(
            f"stratified_split: expected samples in both parts, got {n - total} and {total} of {n} "
            f"samples with fraction {fraction}"
        )
    order = random.permutation(n, seed, _STREAM)
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * (total / n) if n else counts * 0.0
    take = np.floor(share).astype(np.int64)
    largest = np.argsort(take - share, kind="stable")
    take[largest[: total - int(take.sum())]] += 1
    chosen = np.zeros(n, bool)
    for label, count in zip(classes, take, strict=True):
        chosen[order[labels[order] == label][:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
