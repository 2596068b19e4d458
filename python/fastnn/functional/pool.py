"""Pooling of the last one or two axes: windows on a grid, adaptive, global and fractional.

Inputs are (batch, channels, length) or (batch, channels, height, width), or without the batch axis.
For its gradient max pooling keeps one byte per window, the place of the largest element; int64
where a window has over 256 elements. Of equal ones the first counts; NaN is larger than all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules, random
from fastnn.tensor import Tensor, Vjp, apply, as_tensor, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Size = int | Sequence[int]


def _pair(op: str, name: str, value: Any, spatial: int, trivial: int = 1) -> tuple[int, int]:
    """(height, width) of an argument; the height of one spatial axis is trivial."""
    values = (value,) * spatial if isinstance(value, int) else tuple(value)
    if len(values) != spatial:
        raise ValueError(f"{op}: expected {name} to be {spatial} numbers or one, got {value}")
    return (trivial, *values) if spatial == 1 else values  # type: ignore[return-value]


# ---- max -----------------------------------------------------------------------------------------


@_rules.keeps_layout
def _max_pool(
    x: Any, *, spatial: int, grid: tuple[Any, ...], save: bool, indices: bool
) -> tuple[Any, Vjp]:
    y, saved = _core.max_pool(*(x, spatial, *grid, save, indices))
    return _with_indices(x, y, saved, spatial, grid, indices)


_NO_GRID = ((1, 1), (1, 1), (0, 0), (1, 1), False)


def _with_indices(
    x: Any, y: Any, saved: Any, spatial: int, grid: tuple[Any, ...], indices: bool
) -> tuple[Any, Vjp]:
    """The rule's results: y, or (y, indices), which have no gradient."""
    shape = list(x.shape)

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dy = dys[0] if indices else dys
        return (_core.max_pool_bwd(dy, saved, shape, spatial, *grid),)

    return ((y, saved) if indices else y), vjp


def _pooled(result: Any, indices: bool) -> Any:
    """What the rule returned; indices are off the tape."""
    return (result[0], result[1].detach()) if indices else result


def _max_pool_nd(
    op: str,
    spatial: int,
    input: ArrayLike | Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    kernel = _pair(op, "kernel_size", kernel_size, spatial)
    grid = (
        kernel,
        kernel if stride is None else _pair(op, "stride", stride, spatial),
        _pair(op, "padding", padding, spatial, 0),
        _pair(op, "dilation", dilation, spatial),
        ceil_mode,
    )
    x = as_tensor(input)
    save = is_grad_enabled() and x.requires_grad
    result = apply(_max_pool, x, spatial=spatial, grid=grid, save=save, indices=return_indices)
    return _pooled(result, return_indices)


def max_pool1d(
    input: ArrayLike | Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of the last axis; see :func:`max_pool2d`.

    Args:
        input: Array of shape (batch, channels, length) or (channels, length).
        kernel_size: Elements of a window.
        stride: From window to window; the kernel size by default.
        padding: Elements of -inf on both sides, at most half of the kernel.
        dilation: Distance of a window's elements.
        ceil_mode: Whether a last window may hang over the end.
        return_indices: Whether to return (output, indices into the axis).

    Returns:
        Tensor of shape (..., out), or a pair with an int64 Tensor.

    Raises:
        ValueError: If an argument is out of range or no window fits.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.max_pool1d([[1.0, 3.0, 2.0, 0.0]], 2).numpy()
        array([[3., 2.]], dtype=float32)
    """
    return _max_pool_nd(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    input: ArrayLike | Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window: y[i, j] = max over (k, l) of x[i s - p + k d, j s - p + l d].

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        kernel_size: Height and width of a window, or one number for both.
        stride: From window to window; the kernel size by default.
        padding: Elements of -inf on every side, at most half of the kernel.
        dilation: Distance of a window's elements.
        ceil_mode: Whether a last window may hang over the end.
        return_indices: Whether to return (output, flat indices into the plane).

    Returns:
        Tensor of shape (..., floor((n + 2 p - d (k - 1) - 1) / s) + 1 for each axis), or a pair
        with an int64 Tensor.

    Raises:
        ValueError: If an argument is out of range or no window fits.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.max_pool2d([[[1.0, 2.0], [3.0, 0.0]]], 2).numpy()
        array([[[3.]]], dtype=float32)
    """
    return _max_pool_nd(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


# ---- average -------------------------------------------------------------------------------------


@_rules.keeps_layout
def _avg_pool(x: Any, *, spatial: int, grid: tuple[Any, ...]) -> tuple[Any, Vjp]:
    shape = list(x.shape)
    y = _core.avg_pool(x, spatial, *grid)
    return y, lambda dy, needs: (_core.avg_pool_bwd(dy, shape, spatial, *grid),)


def _avg_pool_nd(op: str, spatial: int, input: Any, window: Any, options: Any) -> Tensor:
    kernel_size, stride, padding = window
    kernel = _pair(op, "kernel_size", kernel_size, spatial)
    steps = kernel if stride is None else _pair(op, "stride", stride, spatial)
    grid = (kernel, steps, _pair(op, "padding", padding, spatial, 0), *options)
    return apply(_avg_pool, as_tensor(input), spatial=spatial, grid=grid)


def avg_pool1d(
    input: ArrayLike | Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of the last axis; see :func:`avg_pool2d`.

    Args:
        input: Array of shape (batch, channels, length) or (channels, length).
        kernel_size: Elements of a window.
        stride: From window to window; the kernel size by default.
        padding: Zeros on both sides, at most half of the kernel.
        ceil_mode: Whether a last window may hang over the end.
        count_include_pad: Whether padding counts in the mean.

    Returns:
        Tensor of shape (..., out).

    Raises:
        ValueError: If an argument is out of range or no window fits.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.avg_pool1d([[1.0, 3.0, 2.0, 0.0]], 2).numpy()
        array([[2., 1.]], dtype=float32)
    """
    options = (ceil_mode, count_include_pad, None)
    return _avg_pool_nd("avg_pool1d", 1, input, (kernel_size, stride, padding), options)


def avg_pool2d(
    input: ArrayLike | Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        kernel_size: Height and width of a window, or one number for both.
        stride: From window to window; the kernel size by default.
        padding: Zeros on every side, at most half of the kernel.
        ceil_mode: Whether a last window may hang over the end.
        count_include_pad: Whether padding counts in the mean.
        divisor_override: What to divide the sums by, instead of the number of elements.

    Returns:
        Tensor of shape (..., out_height, out_width).

    Raises:
        ValueError: If an argument is out of range or no window fits.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.avg_pool2d([[[1.0, 2.0], [3.0, 0.0]]], 2).numpy()
        array([[[1.5]]], dtype=float32)
    """
    options = (ceil_mode, count_include_pad, divisor_override)
    return _avg_pool_nd("avg_pool2d", 2, input, (kernel_size, stride, padding), options)


# ---- adaptive and fractional ---------------------------------------------------------------------


@_rules.keeps_layout
def _adaptive_avg_pool(x: Any, *, out: tuple[int, int]) -> tuple[Any, Vjp]:
    shape = list(x.shape)
    y = _core.adaptive_avg_pool(x, 2, out)
    return y, lambda dy, needs: (_core.adaptive_avg_pool_bwd(dy, shape, 2, out),)


@_rules.keeps_layout
def _adaptive_max_pool(x: Any, *, out: tuple[int, int], indices: bool) -> tuple[Any, Vjp]:
    y, saved = _core.adaptive_max_pool(x, 2, out)
    return _with_indices(x, y, saved, 2, _NO_GRID, indices)


def _output_size(op: str, x: Any, output_size: Any) -> tuple[int, int]:
    """None stands for the size of the input."""
    sizes = (
        (output_size,) * 2 if output_size is None or isinstance(output_size, int) else output_size
    )
    if len(sizes) != 2:
        raise ValueError(f"{op}: expected output_size to be 2 numbers or one, got {output_size}")
    h, w = (n if s is None else s for s, n in zip(sizes, (1, *x.shape)[-2:], strict=True))
    return h, w


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
    x = as_tensor(input)
    return apply(_adaptive_avg_pool, x, out=_output_size("adaptive_avg_pool2d", x, output_size))


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
    x = as_tensor(input)
    out = _output_size("adaptive_max_pool2d", x, output_size)
    return _pooled(apply(_adaptive_max_pool, x, out=out, indices=return_indices), return_indices)


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
    return _with_indices(x, y, saved, 2, _NO_GRID, indices)


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
        kernel=_pair(op, "kernel_size", kernel_size, 2),
        out=_pair(op, "output_size", output_size, 2),
        samples=None if _random_samples is None else as_tensor(_random_samples),
        pseudo_random=pseudo_random,
        indices=return_indices,
    )
    return _pooled(result, return_indices)
