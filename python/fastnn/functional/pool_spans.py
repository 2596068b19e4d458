"""Pooling by windows that share the input out: adaptive, global (an output of 1) and fractional.

Inputs and indices are those of pool.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules, random
from fastnn.functional.pool import Size, pair, pooled, with_indices
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_NO_GRID = ((1, 1), (1, 1), (0, 0), (1, 1), False)


@_rules.keeps_layout
def _adaptive_avg_pool(x: Any, *, spatial: int, out: tuple[int, int]) -> tuple[Any, Vjp]:
    shape = list(x.shape)
    y = _core.adaptive_avg_pool(x, spatial, out)
    return y, lambda dy, needs: (_core.adaptive_avg_pool_bwd(dy, shape, spatial, out),)


@_rules.keeps_layout
def _adaptive_max_pool(
    x: Any, *, spatial: int, out: tuple[int, int], indices: bool
) -> tuple[Any, Vjp]:
    y, saved = _core.adaptive_max_pool(x, spatial, out)
    return with_indices(x, y, saved, spatial, _NO_GRID, indices)


def _output_size(op: str, x: Any, output_size: Any, spatial: int) -> tuple[int, int]:
    """(height, width) of the output; None stands for the size of the input."""
    alone = output_size is None or isinstance(output_size, int)
    sizes = (output_size,) * spatial if alone else tuple(output_size)
    if len(sizes) != spatial:
        wanted = "2 numbers or one" if spatial == 2 else "a number"
        raise ValueError(f"{op}: expected output_size to be {wanted}, got {output_size}")
    sizes = (1, *sizes)[-2:]
    h, w = (n if s is None else s for s, n in zip(sizes, (1, *x.shape)[-2:], strict=True))
    return h, w


def _adaptive_avg_pool_nd(op: str, spatial: int, input: Any, output_size: Any) -> Tensor:
    x = as_tensor(input)
    out = _output_size(op, x, output_size, spatial)
    return apply(_adaptive_avg_pool, x, spatial=spatial, out=out)


def _adaptive_max_pool_nd(
    op: str, spatial: int, input: Any, output_size: Any, return_indices: bool
) -> Any:
    x = as_tensor(input)
    out = _output_size(op, x, output_size, spatial)
    result = apply(_adaptive_max_pool, x, spatial=spatial, out=out, indices=return_indices)
    return pooled(result, return_indices)


def adaptive_avg_pool1d(
    input: ArrayLike | Tensor, output_size: int | Sequence[int | None] | None
) -> Tensor:
    """Means of windows that share the last axis out; see :func:`adaptive_avg_pool2d`.

    Args:
        input: Array of shape (batch, channels, length) or (channels, length).
        output_size: Length of the output; None keeps the input's.

    Returns:
        Tensor of shape (..., output_size).

    Raises:
        ValueError: If the size is negative, or the axis has no elements.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.adaptive_avg_pool1d([[1.0, 3.0, 2.0, 0.0]], 2).numpy()
        array([[2., 1.]], dtype=float32)
    """
    return _adaptive_avg_pool_nd("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(
    input: ArrayLike | Tensor, output_size: int | Sequence[int | None] | None
) -> Tensor:
    """Means of windows that share the input out: window i of n covers [i h / n, (i + 1) h / n).

    Bounds are rounded down at the beginning and up at the end, so windows may overlap. With an
    output size of 1 it is global average pooling.

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        output_size: Height and width of the output, or one number for both; None keeps the input's.

    Returns:
        Tensor of shape (..., *output_size).

    Raises:
        ValueError: If a size is negative, or a plane has no elements.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.adaptive_avg_pool2d([[[1.0, 2.0], [3.0, 0.0]]], 1).numpy()
        array([[[1.5]]], dtype=float32)
    """
    return _adaptive_avg_pool_nd("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_max_pool1d(
    input: ArrayLike | Tensor,
    output_size: int | Sequence[int | None] | None,
    return_indices: bool = False,
) -> Any:
    """The largest of each of the windows of :func:`adaptive_avg_pool1d`.

    Args:
        input: Array of shape (batch, channels, length) or (channels, length).
        output_size: Length of the output; None keeps the input's.
        return_indices: Whether to return (output, indices into the axis).

    Returns:
        Tensor of shape (..., output_size), or a pair with an int64 Tensor.

    Raises:
        ValueError: If the size is negative, or the axis has no elements.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.adaptive_max_pool1d([[1.0, 3.0, 2.0, 0.0]], 2).numpy()
        array([[3., 2.]], dtype=float32)
    """
    return _adaptive_max_pool_nd("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: ArrayLike | Tensor,
    output_size: int | Sequence[int | None] | None,
    return_indices: bool = False,
) -> Any:
    """The largest of each of the windows of :func:`adaptive_avg_pool2d`.

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        output_size: Height and width of the output, or one number for both; None keeps the input's.
        return_indices: Whether to return (output, flat indices into the plane).

    Returns:
        Tensor of shape (..., *output_size), or a pair with an int64 Tensor.

    Raises:
        ValueError: If a size is negative, or a plane has no elements.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.adaptive_max_pool2d([[[1.0, 2.0], [3.0, 0.0]]], 1).numpy()
        array([[[3.]]], dtype=float32)
    """
    return _adaptive_max_pool_nd("adaptive_max_pool2d", 2, input, output_size, return_indices)


# ---- fractional ----------------------------------------------------------------------------------


@_rules.keeps_layout
def _fractional_max_pool(
    x: Any,
    *,
    kernel: tuple[int, int],
    out: tuple[int, int],
    samples: Any,
    pseudo_random: bool,
    indices: bool,
) -> tuple[Any, Vjp]:
    draw = _core.rng_draw(random.generator("dropout", x.device))
    y, saved = _core.fractional_max_pool(x, kernel, out, draw, samples, pseudo_random)
    return with_indices(x, y, saved, 2, _NO_GRID, indices)


def fractional_max_pool2d(
    input: ArrayLike | Tensor,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | Tensor | None = None,
    *,
    pseudo_random: bool = True,
) -> Any:
    """Max pooling by a fraction: windows in random places, drawn anew for each channel and call.

    Of n elements, out windows start at 0 = a_0 < a_1 < ... = n - k, whose steps are the floor and
    the ceiling of alpha = (n - k) / (out - 1). Pseudo-random: a_i = floor(alpha (i + u)) -
    floor(alpha u) with one u per axis; random: the same steps in random order.

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        kernel_size: Height and width of a window; those of 2 or more overlap.
        output_size: Height and width of the output; or else output_ratio.
        output_ratio: The output's part of the input's size, in (0, 1).
        return_indices: Whether to return (output, flat indices into the plane).
        _random_samples: u of shape (batch, channels, 2), for width and height, in place of a draw.
        pseudo_random: Whether the sequences are pseudo-random, as in torch, or random.

    Returns:
        Tensor of shape (..., *output_size), or a pair with an int64 Tensor.

    Raises:
        ValueError: If sizes do not fit, or not one of output_size and output_ratio is given.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.fractional_max_pool2d(fn.ones(1, 5, 5), 2, output_size=3).shape
        (1, 3, 3)

    Source:
        Graham 2014, "Fractional max-pooling".
    """
    op, x = "fractional_max_pool2d", as_tensor(input)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{op}: expected one of output_size and output_ratio")
    if output_ratio is not None:
        ratios = (output_ratio,) * 2 if isinstance(output_ratio, float) else tuple(output_ratio)
        if not all(0 < r < 1 for r in ratios) or len(ratios) != 2:
            raise ValueError(f"{op}: expected output_ratio in (0, 1), got {output_ratio}")
        output_size = tuple(int(n * r) for n, r in zip(x.shape[-2:], ratios, strict=True))
    assert output_size is not None
    result = apply(
        _fractional_max_pool,
        x,
        kernel=pair(op, "kernel_size", kernel_size, 2),
        out=pair(op, "output_size", output_size, 2),
        samples=None if _random_samples is None else as_tensor(_random_samples),
        pseudo_random=pseudo_random,
        indices=return_indices,
    )
    return pooled(result, return_indices)
