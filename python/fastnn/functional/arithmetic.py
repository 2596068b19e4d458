"""Arithmetic with the activation fused into it; operators are methods of Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn.functional.activation import Activation, resolve_activation
from fastnn.tensor import Tensor, Vjp, apply, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _add(x: Any, z: Any, *, kind: int, a: float, saves_output: bool, save: bool) -> tuple[Any, Vjp]:
    y, total = _core.add_activation(x, z, kind, a, save and not saves_output)
    saved = y if saves_output else total

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx = _core.activation_bwd(dy, saved, kind, a)
        return dx, dx

    return y, vjp


def add(
    input: ArrayLike | Tensor, other: ArrayLike | Tensor, *, activation: Activation = None
) -> Tensor:
    """act(input + other), in one pass: the end of a residual block.

    Args:
        input: Array of any shape.
        other: Array of the same shape and dtype.
        activation: Name of an activation, or (name, parameter), as in :func:`linear`.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If shapes differ, or there is no such activation.
        TypeError: If dtypes differ.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.add([1.0, 2.0], [-3.0, 1.0], activation="relu").numpy()
        array([0., 3.], dtype=float32)
    """
    if activation is None:
        return _rules.arithmetic("add", input, other)
    kind, saves_output, a = resolve_activation("add", activation)
    return apply(
        _add, input, other, kind=kind, a=a, saves_output=saves_output, save=is_grad_enabled()
    )
