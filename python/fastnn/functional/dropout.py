"""Dropout by counter: the mask is drawn again in backward, never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core, random
from fastnn.tensor import Tensor, Vjp, apply

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _dropout(x: Any, *, p: float) -> tuple[Any, Vjp]:
    draw = _core.rng_draw(random.generator("dropout"))
    y = _core.dropout(x, draw, p)
    return y, lambda dy, needs: (_core.dropout(dy, draw, p),)


def dropout(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    p is rounded to a multiple of 2^-16, and the scale is that of the rounded p. The elements drawn
    depend on the seed and on how many draws came before, not on threads.

    Args:
        input: Array of any shape.
        p: Probability of dropping, in [0, 1].
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1].

    Example:
        >>> import fastnn as fn
        >>> fn.functional.dropout([1.0, 2.0], p=1.0).numpy()
        array([0., 0.], dtype=float32)

    Source:
        Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected 0 <= p <= 1, got {p}")
    if not training or p == 0:
        return input if isinstance(input, Tensor) else _core.share(input)
    result: Tensor = apply(_dropout, input, p=float(p))
    return result
