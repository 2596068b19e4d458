"""linear, with the activation fused into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.functional.activation import Activation, resolve_activation
from fastnn.tensor import Tensor, Vjp, apply, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _linear(
    x: Any, w: Any, b: Any, *, kind: int, saves_output: bool, a: float, recording: bool
) -> tuple[Any, Vjp]:
    save_z = recording and kind != 0 and not saves_output
    y, z = _core.linear_fwd(x, w, b, kind, a, save_z)
    saved = None if kind == 0 else y if saves_output else z

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.linear_bwd(dy, x, w, saved, kind, a, *needs)
        return dx, dw, db

    return y, vjp


def linear(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    *,
    activation: Activation = None,
) -> Tensor:
    """act(x W^T + b) over the last axis, in one pass.

    Args:
        input: Array of shape (..., in).
        weight: Array of shape (out, in).
        bias: Array of shape (out,), or None.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored; its derivative and the bias gradient are fused in backward.

    Returns:
        Tensor of shape (..., out).

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a dtype is not float32.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.linear([[1.0, 2.0]], [[1.0, 1.0]], [-5.0], activation="relu").numpy()
        array([[0.]], dtype=float32)
    """
    kind, saves_output, a = resolve_activation("linear", activation)
    result: Tensor = apply(
        _linear,
        input,
        weight,
        bias,
        kind=kind,
        saves_output=saves_output,
        a=a,
        recording=is_grad_enabled(),
    )
    return result
