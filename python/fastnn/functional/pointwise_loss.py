"""Losses of one element. One rule serves them all: the formulas are in
csrc/kernels/formulas/loss.h.

Input and target have one shape: nothing is broadcast, so that (n,) against (n, 1) is an error and
not an (n, n) loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn._checks import check_number
from fastnn.functional.loss import constant, scale_of
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _pointwise(
    x: Any,
    target: Any,
    *,
    kind: int,
    weight: Any,
    each_a: Any,
    a: float,
    scale: float | None,
) -> tuple[Any, Vjp]:
    loss = _core.pointwise_loss_fwd(kind, x, target, weight, each_a, a, scale)
    factor = 1.0 if scale is None else scale

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return _core.pointwise_loss_bwd(kind, dy, x, target, weight, each_a, a, factor), None

    return loss, vjp


def _call(
    name: str,
    input: Any,
    target: Any,
    reduction: str,
    *,
    a: float = 0.0,
    weight: Any = None,
    each_a: Any = None,
    kind: str = "",
    scale: float | None = None,
) -> Tensor:
    x = as_tensor(input)
    result: Tensor = apply(
        _pointwise,
        x,
        constant(name, "target", target),
        kind=_core.POINTWISE_LOSSES[kind or name],
        weight=constant(name, "weight", weight),
        each_a=constant(name, "pos_weight", each_a),
        a=a,
        scale=scale or scale_of(name, reduction, x, math.prod(x.shape), "element"),
    )
    return result


def mse_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str = "mean"
) -> Tensor:
    """(x - t)^2, in float64 until it is stored: finite sums of large differences stay finite.

    Args:
        input: Predictions of any shape.
        target: What they should be: float32 of the same shape, without gradient.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, the target requires a gradient, or the mean is of nothing.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.mse_loss([1.0, 2.0], [0.0, 0.0]).item()
        2.5
    """
    return _call("mse_loss", input, target, reduction)


def l1_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str = "mean"
) -> Tensor:
    """|x - t|, with gradient 0 where they are equal.

    Args:
        input: Predictions of any shape.
        target: What they should be: float32 of the same shape, without gradient.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, the target requires a gradient, or the mean is of nothing.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.l1_loss([1.0, 2.0], [0.0, 0.0]).item()
        1.5
    """
    return _call("l1_loss", input, target, reduction)


def smooth_l1_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = x - t.

    Args:
        input: Predictions of any shape.
        target: What they should be: float32 of the same shape, without gradient.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.
        beta: Where the parabola ends, >= 0; 0 is l1_loss.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, beta is negative or infinite, the target requires a gradient,
            or there is nothing to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.smooth_l1_loss([0.5, 2.0], [0.0, 0.0], reduction="none").numpy()
        array([0.125, 1.5  ], dtype=float32)

    Source:
        Girshick 2015, "Fast R-CNN".
    """
    check_number("smooth_l1_loss", "beta", beta)
    if not 0 <= beta < math.inf:
        raise ValueError(f"smooth_l1_loss: expected 0 <= beta < inf, got {beta}")
    return _call("smooth_l1_loss", input, target, reduction, a=beta)


def huber_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
) -> Tensor:
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), with d = x - t.

    Args:
        input: Predictions of any shape.
        target: What they should be: float32 of the same shape, without gradient.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.
        delta: Where the parabola ends, > 0.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, delta is not positive and finite, the target requires a
            gradient, or there is nothing to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.huber_loss([0.5, 4.0], [0.0, 0.0], "none", delta=2.0).numpy()
        array([0.125, 6.   ], dtype=float32)

    Source:
        Huber 1964, "Robust estimation of a location parameter".
    """
    check_number("huber_loss", "delta", delta)
    if not 0 < delta < math.inf:
        raise ValueError(f"huber_loss: expected 0 < delta < inf, got {delta}")
    return _call("huber_loss", input, target, reduction, a=delta)


def binary_cross_entropy_with_logits(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | Tensor | None = None,
) -> Tensor:
    """-weight (pos_weight t log s(x) + (1 - t) log s(-x)), s the sigmoid.

    Sigmoid and logarithm are fused: the loss is finite whenever x is.

    Args:
        input: Logits of any shape.
        target: Probabilities: float32 of the same shape, without gradient.
        weight: Factors of the losses: float32, with the shape of the last axes of the input.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.
        pos_weight: Factors of the positive side, of such a shape too: one for each class.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, the target or a weight requires a gradient, or there is
            nothing to average.

    Example:
        >>> import fastnn as fn
        >>> F = fn.functional
        >>> F.binary_cross_entropy_with_logits([0.0, 1000.0], [1.0, 0.0], reduction="none").numpy()
        array([6.931472e-01, 1.000000e+03], dtype=float32)
    """
    name = "binary_cross_entropy_with_logits"
    return _call(name, input, target, reduction, a=1.0, weight=weight, each_a=pos_weight)


def binary_cross_entropy(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight (t log x + (1 - t) log(1 - x)), a logarithm being at least -100.

    Prefer binary_cross_entropy_with_logits: once a probability has been rounded to 0 or 1, this
    loss has lost how wrong it was, and the gradient of the sigmoid before it is 0.

    Args:
        input: Probabilities of any shape; outside [0, 1] the loss is NaN.
        target: Probabilities: float32 of the same shape, without gradient.
        weight: Factors of the losses: float32, with the shape of the last axes of the input.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, the target or a weight requires a gradient, or there is
            nothing to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.binary_cross_entropy([0.5, 0.0], [1.0, 1.0], reduction="none").numpy()
        array([  0.6931472, 100.       ], dtype=float32)
    """
    return _call("binary_cross_entropy", input, target, reduction, weight=weight)


def kl_div(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for logarithms of probabilities x, 0 log 0 = 0.

    Args:
        input: Logarithms of the predicted probabilities, of any shape.
        target: Probabilities: float32 of the same shape, without gradient.
        reduction: ``"batchmean"``, the divergence per row: the sum divided by the length of the
            first axis; ``"mean"`` over elements; ``"sum"``; or ``"none"``.
        log_target: Whether the target is a logarithm too.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, the target requires a gradient, or the mean is of nothing.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.kl_div([[-1.0, -2.0]], [[1.0, 0.0]], reduction="batchmean").item()
        1.0

    Source:
        Kullback, Leibler 1951, "On information and sufficiency".
    """
    kind = "kl_div_log" if log_target else "kl_div"
    if reduction != "batchmean":
        return _call("kl_div", input, target, reduction, kind=kind)
    x = as_tensor(input)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(
            f"kl_div: expected at least one row for reduction 'batchmean', got input {x.shape}"
        )
    return _call("kl_div", x, target, "sum", kind=kind, scale=1.0 / x.shape[0])


def soft_margin_loss(
    input: ArrayLike | Tensor, target: ArrayLike | Tensor, reduction: str = "mean"
) -> Tensor:
    """log(1 + e^(-t x)): logistic regression with labels -1 and 1.

    Args:
        input: Scores of any shape.
        target: -1 or 1 for each: float32 of the same shape, without gradient.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, the target requires a gradient, or the mean is of nothing.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.soft_margin_loss([0.0], [1.0]).item()
        0.6931471824645996
    """
    return _call("soft_margin_loss", input, target, reduction)


def hinge_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - t x): the support vector machine's loss with labels -1 and 1.

    Args:
        input: Scores of any shape.
        target: -1 or 1 for each: float32 of the same shape, without gradient.
        margin: How far on its side a score has to be.
        reduction: ``"mean"`` over elements, ``"sum"``, or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of the input's shape for ``"none"``.

    Raises:
        ValueError: If shapes differ, the target requires a gradient, or the mean is of nothing.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.hinge_loss([0.5, 3.0], [1.0, 1.0], reduction="none").numpy()
        array([0.5, 0. ], dtype=float32)

    Source:
        Cortes, Vapnik 1995, "Support-vector networks".
    """
    return _call("hinge_loss", input, target, reduction, a=margin)
