"""Gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _core
from fastnn.tensor import Tensor

__all__ = ["clip_grad_norm_"]


def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> Tensor:
    """Scale the gradients in place so that their norm as one vector is at most max_norm.

    The norm is accumulated in float64: finite gradients never overflow it.

    Args:
        parameters: Tensors; those without a gradient are skipped.
        max_norm: Upper bound, >= 0.

    Returns:
        The norm before clipping, a float32 scalar.

    Raises:
        ValueError: If max_norm is negative, or a gradient is NaN or infinite: nothing is scaled.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([3.0, 4.0], requires_grad=True)
        >>> w.grad = fn.tensor([3.0, 4.0])
        >>> fn.nn.utils.clip_grad_norm_([w], 1.0).item()
        5.0
        >>> w.grad.numpy()
        array([0.6, 0.8], dtype=float32)
    """
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norm: Any = _core.clip_grad_norm([p.grad for p in tensors if p.grad is not None], max_norm)
    return norm  # type: ignore[no-any-return]
