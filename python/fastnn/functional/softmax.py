"""softmax, log_softmax and logsumexp over the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _softmax(x: Any, *, log: bool) -> tuple[Any, Vjp]:
    y = _core.softmax_fwd(x, log)
    return y, lambda dy, needs: (_core.softmax_bwd(dy, y, log),)


def _logsumexp(x: Any) -> tuple[Any, Vjp]:
    y = _core.logsumexp_fwd(x)
    return y, lambda dy, needs: (_core.logsumexp_bwd(dy, x),)


def _last_axis(op: str, input: Any, dim: int) -> Any:
    x = as_tensor(input)
    if dim not in (-1, x.ndim - 1):
        raise ValueError(
            f"{op}: expected dim to be the last axis, -1 or {x.ndim - 1}, "
            f"got {dim} for input {x.shape}"
        )
    return x


def softmax(input: ArrayLike | Tensor, dim: int = -1) -> Tensor:
    """e^x / sum e^x over the last axis, with the maximum subtracted first.

    Args:
        input: Array of shape (..., classes).
        dim: The last axis.

    Returns:
        Tensor of the same shape and dtype; each row sums to 1.

    Raises:
        ValueError: If dim is another axis, or there are no classes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.softmax([1000.0, 0.0]).numpy()
        array([1., 0.], dtype=float32)
    """
    result: Tensor = apply(_softmax, _last_axis("softmax", input, dim), log=False)
    return result


def log_softmax(input: ArrayLike | Tensor, dim: int = -1) -> Tensor:
    """x - logsumexp(x) over the last axis.

    Args:
        input: Array of shape (..., classes).
        dim: The last axis.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If dim is another axis, or there are no classes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.log_softmax([0.0, -1000.0]).numpy()
        array([    0., -1000.], dtype=float32)
    """
    result: Tensor = apply(_softmax, _last_axis("log_softmax", input, dim), log=True)
    return result


def logsumexp(input: ArrayLike | Tensor, dim: int = -1) -> Tensor:
    """log(sum e^x) over the last axis; -inf for a row of -inf.

    Args:
        input: Array of shape (..., classes).
        dim: The last axis.

    Returns:
        Tensor of shape (...).

    Raises:
        ValueError: If dim is another axis, or there are no classes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.logsumexp([1000.0, 0.0]).item()
        1000.0
    """
    result: Tensor = apply(_logsumexp, _last_axis("logsumexp", input, dim))
    return result
