"""Penalties on parameters: scalars to add to a loss, one launch for all parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn._checks import check_number
from fastnn.tensor import Tensor, Vjp, apply

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _penalty(*params: Any, op: str, l1: float, l2: float) -> tuple[Any, Vjp]:
    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        wanted = [p for p, needed in zip(params, needs, strict=True) if needed]
        grads = iter(_core.penalty_bwd(op, dy, wanted, l1, l2))
        return tuple(next(grads) if needed else None for needed in needs)

    return _core.penalty_fwd(op, list(params), l1, l2), vjp


def _of(op: str, parameters: Any, l1: float, l2: float) -> Tensor:
    several = isinstance(parameters, Iterable) and not isinstance(parameters, Tensor)
    items = list(parameters) if several else [parameters]
    if not all(isinstance(p, Tensor) for p in items):  # one array
        items = [_core.share(parameters)]
    result: Tensor = apply(_penalty, *items, op=op, l1=l1, l2=l2)
    return result


def _check(op: str, name: str, value: float) -> float:
    check_number(op, name, value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{op}: expected a finite {name} >= 0, got {value}")
    return float(value)


def l1_penalty(parameters: Iterable[Tensor] | ArrayLike | Tensor, lam: float) -> Tensor:
    """lam sum |w| over all parameters; its slope at 0 is 0.

    The gradient alone makes no weight exactly 0: for that, see :class:`fastnn.optim.ProximalL1`.

    Args:
        parameters: Tensors of any shapes and one dtype, or one array.
        lam: Factor, >= 0.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If lam is negative or not finite, or there is no parameter.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0, -2.0], requires_grad=True)
        >>> penalty = fn.functional.l1_penalty([w], 0.5)
        >>> penalty.backward()
        >>> penalty.item(), w.grad.numpy()
        (1.5, array([ 0.5, -0.5], dtype=float32))

    Source:
        Tibshirani 1996, "Regression shrinkage and selection via the lasso".
    """
    return _of("l1_penalty", parameters, _check("l1_penalty", "lam", lam), 0.0)


def l2_penalty(
    parameters: Iterable[Tensor] | ArrayLike | Tensor, lam: float, half: bool = False
) -> Tensor:
    """lam sum w^2 over all parameters, or half of it.

    As an optimizer's coupled ``weight_decay`` it is 2 lam, or lam with half.

    Args:
        parameters: Tensors of any shapes and one dtype, or one array.
        lam: Factor, >= 0.
        half: Whether to halve it, so that the gradient is lam w.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If lam is negative or not finite, or there is no parameter.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.l2_penalty(fn.tensor([1.0, -2.0]), 0.5).item()
        2.5
        >>> fn.functional.l2_penalty(fn.tensor([1.0, -2.0]), 0.5, half=True).item()
        1.25

    Source:
        Krogh, Hertz 1992, "A simple weight decay can improve generalization".
    """
    lam = _check("l2_penalty", "lam", lam)
    return _of("l2_penalty", parameters, 0.0, 0.5 * lam if half else lam)


def elastic_net_penalty(
    parameters: Iterable[Tensor] | ArrayLike | Tensor,
    lam: float | None = None,
    beta: float = 1.0,
    *,
    l1: float | None = None,
    l2: float | None = None,
) -> Tensor:
    """lam (beta sum w^2 + sum |w|), or l1 sum |w| + l2 sum w^2.

    The two forms are the same with l1 = lam, l2 = lam beta; scikit-learn's
    alpha (r sum |w| + (1 - r) / 2 sum w^2) is l1 = alpha r, l2 = alpha (1 - r) / 2.

    Args:
        parameters: Tensors of any shapes and one dtype, or one array.
        lam: Factor of the first form, >= 0.
        beta: Weight of the squares in it, >= 0.
        l1: Factor of the magnitudes in the second form, >= 0.
        l2: Factor of the squares in it, >= 0.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: Unless either lam, or l1 and l2 are given, non-negative and finite; or if there
            is no parameter.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0, -2.0])
        >>> fn.functional.elastic_net_penalty(w, 0.5, beta=2.0).item()
        6.5
        >>> fn.functional.elastic_net_penalty(w, l1=0.5, l2=1.0).item()
        6.5

    Source:
        Zou, Hastie 2005, "Regularization and variable selection via the elastic net".
    """
    op = "elastic_net_penalty"
    if lam is not None and l1 is None and l2 is None:
        l1 = _check(op, "lam", lam)
        l2 = l1 * _check(op, "beta", beta)
    elif lam is None and l1 is not None and l2 is not None:
        l1, l2 = _check(op, "l1", l1), _check(op, "l2", l2)
    else:
        raise ValueError(f"{op}: expected either lam, or l1 and l2, got lam={lam}, {l1=}, {l2=}")
    return _of(op, parameters, l1, l2)
