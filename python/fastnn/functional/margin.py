"""Margin losses: the score of a label is to be ahead of the others by a margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.functional.linear import linear
from fastnn.functional.loss import constant, scale_of
from fastnn.functional.pointwise_loss import binary_cross_entropy_with_logits
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _multi_margin(
    x: Any,
    target: Any,
    *,
    weight: Any,
    p: int,
    margin: float,
    divides: bool,
    scale: float | None,
) -> tuple[Any, Vjp]:
    loss = _core.multi_margin_fwd(x, target, weight, p, margin, divides, scale)
    factor = 1.0 if scale is None else scale

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return _core.multi_margin_bwd(dy, x, target, weight, p, margin, divides, factor), None

    return loss, vjp


def _multilabel_margin(x: Any, target: Any, *, scale: float | None) -> tuple[Any, Vjp]:
    loss, counts = _core.multilabel_margin_fwd(x, target, scale)
    factor = 1.0 if scale is None else scale

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return _core.multilabel_margin_bwd(dy, x, target, counts, factor), None

    return loss, vjp


def _call(rule: Any, op: str, input: Any, target: Any, reduction: str, **params: Any) -> Tensor:
    x = as_tensor(input)
    scale = scale_of(op, reduction, x, math.prod(x.shape[:-1]), "row")
    result: Tensor = apply(rule, x, constant(op, "target", target), scale=scale, **params)
    return result


def multi_margin_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """weight_y sum_{c != y} max(0, margin - x_y + x_c)^p / classes for each row, y its label.

    multiclass_hinge_loss is the textbook's form, which does not divide by the classes.

    Args:
        input: Scores, shape (..., classes).
        target: Class indices, int64 of shape (...).
        p: 1, or 2 for the squared hinge.
        margin: How far the label's score has to be ahead.
        weight: A weight for each class, float32 of shape (classes,).
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, a label is out of range (the message has its index), p is
            neither 1 nor 2, or there is no row to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.multi_margin_loss([[1.0, 0.5]], [0]).item()
        0.25

    Source:
        Crammer, Singer 2001, and Weston, Watkins 1999, "Support vector machines for multi-class
        pattern recognition", whose sum over classes this is.
    """
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: expected p 1 or 2, got {p}")
    return _call(
        _multi_margin,
        "multi_margin_loss",
        input,
        target,
        reduction,
        weight=constant("multi_margin_loss", "weight", weight),
        p=p,
        margin=margin,
        divides=True,
    )


def multiclass_hinge_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """sum_{c != y} max(0, margin - x_y + x_c) for each row, y its label.

    Scores that are all alike, as those of a fresh network, have loss classes - 1.

    Args:
        input: Scores, shape (..., classes).
        target: Class indices, int64 of shape (...).
        margin: How far the label's score has to be ahead.
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, a label is out of range (the message has its index), or
            there is no row to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.multiclass_hinge_loss([[0.0] * 10], [3]).item()
        9.0

    Source:
        Weston, Watkins 1999, "Support vector machines for multi-class pattern recognition".
    """
    return _call(
        _multi_margin,
        "multiclass_hinge_loss",
        input,
        target,
        reduction,
        weight=None,
        p=1,
        margin=margin,
        divides=False,
    )


def multilabel_margin_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str = "mean"
) -> Tensor:
    """sum_y sum_c max(0, 1 - (x_y - x_c)) / classes: labels y of the row, classes c that are none.

    Args:
        input: Scores, shape (..., classes).
        target: The labels of each row and then -1: int64 of the input's shape. What stands behind
            the first -1 does not count.
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes differ, a label is out of range (the message has its index), or there
            is no row to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.multilabel_margin_loss([[0.5, 0.0]], [[0, -1]]).item()
        0.25

    Source:
        Zhang, Zhou 2006, "Multilabel neural networks", with a hinge for the exponential.
    """
    return _call(_multilabel_margin, "multilabel_margin_loss", input, target, reduction)


def multilabel_soft_margin_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-sum_c weight_c (t_c log s(x_c) + (1 - t_c) log s(-x_c)) / classes, s the sigmoid.

    The mean over the classes of binary_cross_entropy_with_logits, for each row.

    Args:
        input: Logits, shape (..., classes).
        target: 0 or 1 for each class: float32 of the input's shape, without gradient.
        weight: A weight for each class, float32 of shape (classes,).
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, the target requires a gradient, or there is nothing to
            average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.multilabel_soft_margin_loss([[0.0, 0.0]], [[1.0, 0.0]]).item()
        0.6931471824645996
    """
    op = "multilabel_soft_margin_loss"
    x = as_tensor(input)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{op}: expected at least one class on the last axis, got input {x.shape}")
    scale_of(op, reduction, x, math.prod(x.shape[:-1]), "row")  # checks the reduction
    if (shape := as_tensor(target).shape) != x.shape:
        raise ValueError(f"{op}: expected target of shape {x.shape} like input, got {shape}")
    if reduction == "mean":
        return binary_cross_entropy_with_logits(x, target, weight)
    classes = x.shape[-1]
    each = binary_cross_entropy_with_logits(x, target, weight, "none").reshape(-1, classes)
    rows = linear(each, _core.full((1, classes), 1.0 / classes, "float32", x.device))
    return rows.sum() if reduction == "sum" else rows.reshape(*x.shape[:-1])
