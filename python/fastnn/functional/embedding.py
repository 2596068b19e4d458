"""Embeddings, and what is counted about classes: one-hot codes, predictions, accuracy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _core
from fastnn._checks import check_whole
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _embedding(index: Any, weight: Any, *, padding_idx: int) -> tuple[Any, Vjp]:
    y = _core.embedding(index, weight)
    rows = weight.shape[0]

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return None, _core.embedding_bwd(dy, index, rows, padding_idx)

    return y, vjp


def resolve_padding(op: str, padding_idx: int | None, rows: int) -> int:
    """The row that has no gradient, counted from the beginning; -1 for none.

    Example:
        >>> from fastnn.functional.embedding import resolve_padding
        >>> resolve_padding("embedding", -1, 10)
        9
    """
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise ValueError(
            f"{op}: expected {-rows} <= padding_idx < {rows}, the number of embeddings, "
            f"got {padding_idx}"
        )
    return padding_idx % rows


def embedding(
    input: ArrayLike | Tensor, weight: ArrayLike | Tensor, padding_idx: int | None = None
) -> Tensor:
    """weight[input]: a row for each index.

    The gradient of a row is the sum over its places, in their order and in float64, so that it is
    the same on any number of threads.

    Args:
        input: Indices, int64, of any shape.
        weight: Array of shape (embeddings, dim).
        padding_idx: A row that gets no gradient.

    Returns:
        Tensor of shape (*input.shape, dim).

    Raises:
        ValueError: If an index is out of range (the message has its position); inside a captured
            step the optimizer then changes nothing.
        TypeError: If the indices are not int64.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.embedding([2, 0], [[1.0], [2.0], [3.0]]).numpy()
        array([[3.],
               [1.]], dtype=float32)
    """
    index, w = as_tensor(input), as_tensor(weight)
    rows = w.shape[0] if w.ndim else 0
    return apply(_embedding, index, w, padding_idx=resolve_padding("embedding", padding_idx, rows))


def one_hot(input: ArrayLike | Tensor, num_classes: int = -1) -> Tensor:
    """1 at the index, else 0, along a new last axis.

    Args:
        input: Indices, int64, of any shape.
        num_classes: Size of the new axis; -1 for the largest index and one.

    Returns:
        int64 Tensor of shape (*input.shape, num_classes).

    Raises:
        ValueError: If an index is out of range, or there is nothing to count classes from.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.one_hot([1, 0]).numpy().tolist()
        [[0, 1], [1, 0]]
    """
    index = as_tensor(input)
    if num_classes == -1:
        if math.prod(index.shape) == 0:
            raise ValueError(
                f"one_hot: expected num_classes for input without elements, got input {index.shape}"
            )
        num_classes = max(0, int(np.max(np.asarray(index)))) + 1
    check_whole("one_hot", num_classes=num_classes)
    result: Tensor = _core.one_hot(index, num_classes)
    return result


def argmax(input: ArrayLike | Tensor, dim: int = -1) -> Tensor:
    """The first of the largest elements of each row; NaN is larger than all.

    Args:
        input: Array of shape (..., classes).
        dim: The last axis.

    Returns:
        int64 Tensor of shape (...).

    Raises:
        ValueError: If dim is another axis, or there are no classes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.argmax([[0.0, 2.0, 2.0]]).numpy().tolist()
        [1]
    """
    x = as_tensor(input)
    if dim not in (-1, x.ndim - 1):
        raise ValueError(
            f"argmax: expected dim to be the last axis, -1 or {x.ndim - 1}, "
            f"got {dim} for input {x.shape}"
        )
    result: Tensor = _core.argmax(x)
    return result


def accuracy(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor, k: int = 1) -> Tensor:
    """The part of the rows whose label is among the k largest logits (top-k accuracy).

    Of equal logits the first stands first, as in :func:`argmax`.

    Args:
        logits: Array of shape (..., classes).
        labels: int64, of shape (...).
        k: At least 1.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If shapes do not fit, a label is out of range, or there is no row.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.accuracy([[1.0, 3.0, 2.0], [1.0, 0.0, 2.0]], [2, 2]).item()
        0.5
        >>> fn.functional.accuracy([[1.0, 3.0, 2.0], [1.0, 0.0, 2.0]], [2, 2], k=2).item()
        1.0
    """
    correct = _core.topk_correct(logits, labels, k)
    rows = math.prod(correct.shape)
    if rows == 0:
        raise ValueError("accuracy: expected at least one row, got none")
    result: Tensor = _core.sum(correct, 1.0 / rows, False)
    return result
