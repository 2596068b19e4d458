"""Normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.tensor import Tensor, Vjp, apply

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _layer_norm(x: Any, w: Any, b: Any, *, shape: tuple[int, ...], eps: float) -> tuple[Any, Vjp]:
    y, mean, rstd = _core.layer_norm_fwd(x, shape, w, b, eps)
    axes = len(shape)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.layer_norm_bwd(dy, x, w, mean, rstd, axes, *needs)
        return dx, dw, db

    return y, vjp


def layer_norm(
    input: ArrayLike | Tensor,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over the trailing axes.

    Mean and variance (of the population) are accumulated in float64, so a common offset of 1e8 does
    no harm.

    Args:
        input: Array of shape (..., *normalized_shape).
        normalized_shape: Sizes of the axes to normalise over, the last ones of the input.
        weight: Array of shape normalized_shape, or None for ones.
        bias: Array of shape normalized_shape, or None for zeros.
        eps: Added to the variance, >= 0.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.layer_norm([[1.0, 3.0]], 2, eps=0.0).numpy()
        array([[-1.,  1.]], dtype=float32)

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization".
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    result: Tensor = apply(_layer_norm, input, weight, bias, shape=shape, eps=eps)
    return result
