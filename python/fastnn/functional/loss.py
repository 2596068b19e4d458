"""Losses of rows of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn._checks import check_number
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def constant(op: str, name: str, x: Any) -> Any:
    """A target or weight, which a loss does not differentiate."""
    if isinstance(x, Tensor):
        if x.requires_grad:
            raise ValueError(
                f"{op}: expected {name} without gradient, got one that requires it; "
                "call detach() first"
            )
        return x
    return None if x is None else _core.share(x)


def scale_of(op: str, reduction: str, x: Any, count: int, what: str) -> float | None:
    """What the sum of the losses is multiplied by; None: no sum."""
    if reduction == "mean":
        if count == 0:
            raise ValueError(
                f"{op}: expected at least one {what} for reduction 'mean', got input {x.shape}"
            )
        return 1.0 / count
    if reduction not in ("sum", "none"):
        raise ValueError(f"{op}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}")
    return 1.0 if reduction == "sum" else None


def _class_loss(
    x: Any,
    target: Any,
    *,
    weight: Any,
    ignore_index: int,
    smoothing: float,
    logits: bool,
    scale: float | None,
    weighted: bool,
    check_finite: bool,
) -> tuple[Any, Vjp]:
    loss, maximum, log_sum, divisor = _core.cross_entropy_fwd(
        x, target, weight, ignore_index, smoothing, logits, scale, weighted, check_finite
    )
    factor = 1.0 if scale is None else scale

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx = _core.cross_entropy_bwd(
            dy, x, target, weight, ignore_index, smoothing, maximum, log_sum, factor, divisor
        )
        return dx, None

    return loss, vjp


def _rows(op: str, input: Any, target: Any, weight: Any, reduction: str, **params: Any) -> Tensor:
    x = as_tensor(input)
    t = constant(op, "target", target)
    scale = scale_of(op, reduction, x, math.prod(x.shape[:-1]), "row")
    if t.dtype != "int64" and params["ignore_index"] >= 0:
        raise ValueError(
            f"{op}: expected class indices for ignore_index {params['ignore_index']}, "
            "got target probabilities"
        )
    # A mean over labels divides by the sum of their weights, which the kernel knows.
    weighted = reduction == "mean" and t.dtype == "int64"
    result: Tensor = apply(
        _class_loss,
        x,
        t,
        weight=constant(op, "weight", weight),
        scale=1.0 if weighted else scale,
        weighted=weighted,
        **params,
    )
    return result


def cross_entropy(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    check_finite: bool = False,
) -> Tensor:
    """-sum_c t_c log softmax(x)_c for each row, softmax and logarithm fused.

    t_c = weight_c ((1 - label_smoothing) q_c + label_smoothing / classes), where q is the target:
    1 for the label's class, or the probabilities. 0 log 0 counts as 0. The mean over labels divides
    by the sum of their weights and is NaN when all are ignored (0 / 0, as in torch); the mean over
    probabilities divides by the number of rows. A row of nothing but -inf has no distribution: its
    loss is NaN, and inside a captured step, or with ``check_finite``, an error that names the row.

    Args:
        input: Logits, shape (..., classes).
        target: Class indices (int64, shape (...)), or probabilities (float32, the input's shape).
        weight: A weight for each class, float32 of shape (classes,).
        ignore_index: A label whose rows have no loss and no gradient.
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.
        label_smoothing: The part of the target that is spread evenly over all classes, 0 to 1.
        check_finite: Raise if the reduced loss is not finite; inside a captured step the optimizer
            then changes nothing.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, a label is out of range (the message has its index), there
            is no row to average, or ``label_smoothing`` is not in [0, 1].

    Example:
        >>> import fastnn as fn
        >>> fn.functional.cross_entropy([[0.0, 0.0]], [1]).item()
        0.6931471824645996

    Source:
        Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs";
        label smoothing: Szegedy et al. 2016, "Rethinking the Inception architecture".
    """
    check_number("cross_entropy", "label_smoothing", label_smoothing)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(
            f"cross_entropy: expected 0 <= label_smoothing <= 1, got {label_smoothing}"
        )
    return _rows(
        "cross_entropy",
        input,
        target,
        weight,
        reduction,
        ignore_index=ignore_index,
        smoothing=label_smoothing,
        logits=True,
        check_finite=check_finite,
    )


def nll_loss(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-weight_y x_y for each row, y its label: cross_entropy of what log_softmax returned.

    Args:
        input: Logarithms of probabilities, shape (..., classes).
        target: Class indices, int64 of shape (...).
        weight: A weight for each class, float32 of shape (classes,).
        ignore_index: A label whose rows have no loss and no gradient.
        reduction: ``"mean"``, divided by the sum of the labels' weights; ``"sum"``; or ``"none"``.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, a label is out of range, or there is no row to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.nll_loss([[-0.5, -2.0]], [1]).item()
        2.0
    """
    return _rows(
        "nll_loss",
        input,
        target,
        weight,
        reduction,
        ignore_index=ignore_index,
        smoothing=0.0,
        logits=False,
        check_finite=False,
    )
