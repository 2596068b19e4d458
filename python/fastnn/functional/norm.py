"""Normalisation over rows, and what all norms share: the activation and dropout after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core, random
from fastnn.functional.activation import Activation, activate, resolve_activation
from fastnn.functional.dropout import dropout
from fastnn.tensor import Rule, Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


# What follows the norm: the index of an activation and its parameter, the generator of dropout (or
# what it drew, in backward) and its p. A norm draws after its checks, in the same native call.
After = tuple[int, float, Any, float]


def apply_norm(
    op: str, rule: Rule, activation: Activation, dropout_p: float, *inputs: Any, **params: Any
) -> Tensor:
    """Apply a norm's rule with what follows it: fused, or one by one.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.layer_norm([[1.0, 3.0]], 2, activation="relu", dropout_p=1.0).numpy()
        array([[0., 0.]], dtype=float32)
    """
    kind, saves_output, a = resolve_activation(op, activation)
    inputs = as_tensor(inputs[0]), *inputs[1:]
    # Fused on the CPU only, so far: elsewhere 16-bit numbers are rounded in between. Dropout counts
    # elements in memory, which is not the order that all norms work in if channels are last.
    apart = inputs[0].device != "cpu" or (dropout_p and inputs[0].layout != "nchw")
    if apart and (kind or dropout_p):
        y: Tensor = apply(rule, *inputs, after=(0, 0.0, None, 0.0), **params)
        y = activate((kind, saves_output, a), y, a) if kind else y
        return dropout(y, dropout_p)
    generator = random.generator("dropout") if dropout_p else None
    after = kind, a, generator, float(dropout_p)
    result: Tensor = apply(rule, *inputs, after=after, **params)
    return result


def _row_norm(
    x: Any,
    w: Any,
    b: Any,
    *,
    shape: tuple[int, ...],
    eps: float,
    centred: bool,
    after: After,
) -> tuple[Any, Vjp]:
    y, mean, rstd, draw = _core.row_norm_fwd(x, shape, w, b, eps, centred, after)
    kind, a, _, p = after
    axes, bias = len(shape), b if kind else None  # an activation needs its input again
    after = kind, a, draw, p

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.row_norm_bwd(dy, x, w, bias, mean, rstd, axes, centred, after, *needs)
        return dx, dw, db

    return y, vjp


def _sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    one = isinstance(normalized_shape, int)
    return (normalized_shape,) if one else tuple(normalized_shape)  # type: ignore[return-value,arg-type]


def layer_norm(
    input: ArrayLike | Tensor,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """drop(act((x - mean) / sqrt(var + eps) * weight + bias)), statistics over the trailing axes.

    Mean and variance (of the population) are accumulated in float64, so a common offset of 1e8 does
    no harm; x - mean has to be a float32 number, so |x| up to half the largest is fine.

    Args:
        input: Array of shape (..., *normalized_shape).
        normalized_shape: Sizes of the axes to normalise over, the last ones of the input.
        weight: Array of shape normalized_shape, or None for ones.
        bias: Array of shape normalized_shape, or None for zeros.
        eps: Added to the variance, >= 0. With 0 a constant row is NaN (0 / 0, as in torch).
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored; on CUDA afterwards, as an op of its own.
        dropout_p: Probability of dropping each element of the result; 0 draws nothing. Drops
            whenever it is not 0, and what :func:`dropout` of the result would.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit, or dropout_p is not in [0, 1]. Nothing is drawn then.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.layer_norm([[1.0, 3.0]], 2, eps=0.0).numpy()
        array([[-1.,  1.]], dtype=float32)

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization".
    """
    shape = _sizes(normalized_shape)
    return apply_norm(
        "layer_norm",
        _row_norm,
        activation,
        dropout_p,
        input,
        weight,
        bias,
        shape=shape,
        eps=eps,
        centred=True,
    )


def rms_norm(
    input: ArrayLike | Tensor,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | Tensor | None = None,
    eps: float | None = None,
    *,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """drop(act(x / sqrt(mean(x^2) + eps) * weight)), the mean over the trailing axes.

    Args:
        input: Array of shape (..., *normalized_shape).
        normalized_shape: Sizes of the axes to normalise over, the last ones of the input.
        weight: Array of shape normalized_shape, or None for ones.
        eps: Added to the mean, >= 0; None for the distance from 1 to the next number of the
            input's dtype.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.
        dropout_p: Probability of dropping each element of the result; see :func:`layer_norm`.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit, or dropout_p is not in [0, 1]. Nothing is drawn then.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.rms_norm([[3.0, -3.0]], 2, eps=0.0).numpy()
        array([[ 1., -1.]], dtype=float32)

    Source:
        Zhang, Sennrich 2019, "Root mean square layer normalization".
    """
    shape = _sizes(normalized_shape)
    if eps is None:
        eps = _EPSILON.get(input.dtype, 0.0) if isinstance(input, Tensor) else _EPSILON["float32"]
    return apply_norm(
        "rms_norm",
        _row_norm,
        activation,
        dropout_p,
        input,
        weight,
        None,
        shape=shape,
        eps=eps,
        centred=False,
    )
