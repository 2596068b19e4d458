"""The linear layer of several models at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.functional.activation import Activation, resolve_activation
from fastnn.functional.linear import make_rule
from fastnn.tensor import Tensor, Vjp, apply, is_grad_enabled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


_stacked_linear = make_rule("stacked_linear", _core.stacked_linear_fwd, _core.stacked_linear_bwd)


def stacked_linear(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    *,
    activation: Activation = None,
) -> Tensor:
    """act(x_i W_i^T + b_i) for several models i, in one launch; each has the bits of its `linear`.

    Args:
        input: Array of shape (models, rows, in), or (rows, in) for all models alike.
        weight: Array of shape (models, out, in).
        bias: Array of shape (models, out), or None.
        activation: As in :func:`linear`.

    Returns:
        Tensor of shape (models, rows, out).

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a dtype is not float32.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.stacked_linear(fn.ones(5, 3), fn.ones(4, 2, 3)).shape
        (4, 5, 2)
    """
    kind, saves_output, a = resolve_activation("stacked_linear", activation)
    return apply(
        _stacked_linear,
        input,
        weight,
        bias,
        kind=kind,
        saves_output=saves_output,
        a=a,
        recording=is_grad_enabled(),
    )


def _models_linear(x: Any, *parts: Any, weight: Any, bias: Any, **options: Any) -> tuple[Any, Vjp]:
    y, whole = _stacked_linear(x, weight, bias, **options)
    count = weight.shape[0]

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        _ = weight  # the parts' memory: a write to one of them is seen
        need_w = any(needs[1 : 1 + count])
        need_b = bias is not None and any(needs[1 + count :])
        dx, dw, db = whole(dy, (needs[0], need_w, need_b))
        gradients = [dx]
        for grad in (dw, db) if bias is not None else (dw,):
            gradients += [None if grad is None else _core.item(grad, i) for i in range(count)]
        return tuple(gradients)

    return y, vjp


def models_linear(
    input: Any,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation = None,
) -> Tensor:
    """:func:`stacked_linear` for weights that are the items of one Tensor: gradients are theirs.

    Args:
        input: As in :func:`stacked_linear`.
        weights: The items of ``weight``, one for each model.
        biases: The items of ``bias``, or nothing.
        weight: Array of shape (models, out, in).
        bias: Array of shape (models, out), or None.
        activation: As in :func:`linear`.

    Example:
        >>> import fastnn as fn
        >>> from fastnn import _core
        >>> from fastnn.functional.stacked import models_linear
        >>> weight = fn.ones(4, 2, 3)
        >>> weights = [_core.item(weight, i) for i in range(4)]
        >>> models_linear(fn.ones(5, 3), weights, [], weight, None).shape
        (4, 5, 2)
    """
    kind, saves_output, a = resolve_activation("stacked_linear", activation)
    return apply(
        _models_linear,
        input,
        *weights,
        *biases,
        weight=weight,
        bias=bias,
        kind=kind,
        saves_output=saves_output,
        a=a,
        recording=is_grad_enabled(),
    )
