"""Losses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.tensor import Tensor, Vjp, apply

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_REDUCTIONS = ("mean", "sum", "none")


def _cross_entropy(x: Any, target: Any, *, reduction: str, check_finite: bool) -> tuple[Any, Vjp]:
    per_row, maximum, log_sum = _core.cross_entropy_fwd(x, target)
    rows = math.prod(per_row.shape)
    if reduction == "mean" and rows == 0:
        raise ValueError(
            f"cross_entropy: expected at least one row for reduction 'mean', got input {x.shape}"
        )
    scale = 1.0 / rows if reduction == "mean" else 1.0
    loss = per_row if reduction == "none" else _core.sum(per_row, scale, check_finite)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return _core.cross_entropy_bwd(dy, x, target, maximum, log_sum, scale), None

    return loss, vjp


def cross_entropy(
    input: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    reduction: str = "mean",
    *,
    check_finite: bool = False,
) -> Tensor:
    """-sum_c t_c log softmax(x)_c for each row, softmax and logarithm fused.

    Args:
        input: Logits, shape (..., classes).
        target: Class indices (int64, shape (...)), or probabilities (float32, the input's shape).
        reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.
        check_finite: Raise if the reduced loss is not finite; inside a captured step the optimizer
            then changes nothing.

    Returns:
        A float32 scalar, or a Tensor of shape (...) for ``"none"``.

    Raises:
        ValueError: If shapes do not fit, a label is out of range (the message has its index), or
            there is no row to average.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.cross_entropy([[0.0, 0.0]], [1]).item()
        0.6931471824645996
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"cross_entropy: expected reduction 'mean', 'sum' or 'none', got {reduction!r}"
        )
    x = input if isinstance(input, Tensor) else _core.share(input)
    t = target if isinstance(target, Tensor) else _core.share(target)
    result: Tensor = apply(_cross_entropy, x, t, reduction=reduction, check_finite=check_finite)
    return result
