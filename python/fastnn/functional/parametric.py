"""prelu, maxout and hardtanh: activations with a trained parameter, several inputs, or limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn.tape import apply_in_place
from fastnn.tensor import Tensor, Vjp, apply, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_PRELU = _core.PARAMETRIC["prelu"]


@_rules.keeps_layout
def parametric(x: Any, a: Any, *, kind: int) -> tuple[Any, Vjp]:
    """The rule of an activation f(x, a) whose a is a Tensor."""
    return _core.parametric_fwd(kind, x, a), lambda dy, needs: _core.parametric_bwd(kind, dy, x, a)


def prelu(input: ArrayLike | Tensor, weight: ArrayLike | Tensor) -> Tensor:
    """x where x > 0, else weight x, also for weights above 1 (not max(weight x, x)).

    Args:
        input: Array of any shape; axis 1 has the channels.
        weight: One slope for all, shape (1,), or one for each channel.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If there are neither one nor as many weights as channels.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.prelu([[-1.0, -1.0]], [0.5, 2.0]).numpy()
        array([[-0.5, -2. ]], dtype=float32)

    Source:
        He et al. 2015, "Delving deep into rectifiers".
    """
    result: Tensor = apply(parametric, input, weight, kind=_PRELU)
    return result


def _maxout(x: Any, *, pieces: int) -> tuple[Any, Vjp]:
    y = _core.maxout_fwd(x, pieces)
    return y, lambda dy, needs: (_core.maxout_bwd(dy, x, y, pieces),)


def maxout(input: ArrayLike | Tensor, pieces: int = 2) -> Tensor:
    """max over j of x[..., j n + i], n the size of a block: the largest of several linear units.

    The gradient goes to the first largest piece.

    Args:
        input: Array of shape (..., pieces n): one block of n after the other.
        pieces: How many blocks.

    Returns:
        Tensor of shape (..., n).

    Raises:
        ValueError: If the last axis is not a multiple of ``pieces``, or ``pieces`` is below 1.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.maxout([1.0, 2.0, 3.0, -1.0]).numpy()
        array([3., 2.], dtype=float32)

    Source:
        Goodfellow et al. 2013, "Maxout networks".
    """
    result: Tensor = apply(_maxout, input, pieces=pieces)
    return result


def _hardtanh(x: Any, *, low: float, high: float) -> tuple[Any, Vjp]:
    y = _core.hardtanh_fwd(x, low, high)
    return y, lambda dy, needs: (_core.hardtanh_bwd(dy, x, low, high),)


def _hardtanh_in_place(x: Any, *, low: float, high: float) -> tuple[Any, Vjp]:
    _core.hardtanh_(x, low, high)
    return x, lambda dy, needs: (_core.hardtanh_bwd(dy, x, low, high),)


def hardtanh(
    input: ArrayLike | Tensor,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    """min(max(x, min_val), max_val), with gradient 0 at both limits.

    ``relu6(x)`` is ``hardtanh(x, 0, 6)``.

    Args:
        input: Array of any shape.
        min_val: The lower limit; rounded to float32.
        max_val: The upper limit.
        inplace: Whether to write over the input where that changes no gradient: where none is
            recorded, and in float32, where an output at a limit is that limit.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If ``min_val`` is above ``max_val``, or one of them is NaN.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.hardtanh([-3.0, 0.5, 3.0]).numpy()
        array([-1. ,  0.5,  1. ], dtype=float32)

    Source:
        Collobert 2004, "Large scale machine learning".
    """
    limits = {"low": min_val, "high": max_val}
    if inplace and type(input) is Tensor:
        recorded = input.requires_grad and is_grad_enabled()
        if input.dtype == "float32" or not recorded:
            return apply_in_place(_hardtanh_in_place, input, name="hardtanh", **limits)
    result: Tensor = apply(_hardtanh, input, **limits)
    return result
