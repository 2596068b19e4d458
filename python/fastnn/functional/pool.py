"""Pooling of the last one or two axes by windows on a grid; pool_spans.py has the others.

Inputs are (batch, channels, length) or (batch, channels, height, width), or without the batch axis.
For its gradient max pooling keeps one byte per window, the place of the largest element; int64
where a window has over 256 elements. Of equal ones the first counts; NaN is larger than all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn.tape import Passed
from fastnn.tensor import Tensor, Vjp, apply, as_tensor, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Size = int | Sequence[int]


def pair(op: str, name: str, value: Any, spatial: int, trivial: int = 1) -> tuple[int, int]:
    """(height, width) of an argument; the height of one spatial axis is trivial."""
    try:
        is_one = not isinstance(value, Iterable)
        values = (index(value),) * spatial if is_one else tuple(map(index, value))
    except TypeError:
        values = ()
    if len(values) != spatial:
        raise ValueError(f"{op}: expected {name} to be {spatial} numbers or one, got {value}")
    return (trivial, *values) if spatial == 1 else values  # type: ignore[return-value]


_SIDE_BY_SIDE = ((2, 2), (2, 2), (0, 0), (1, 1), False)  # windows that no others overlap

# ---- max -----------------------------------------------------------------------------------------


def _has_offsets(x: Any, grid: tuple[Any, ...], indices: bool, **params: Any) -> bool:
    (height, width), *_ = grid
    return x.device == "cpu" and not indices and height * width <= _core.MAX_POOL_OFFSETS


@partial(_rules.keeps_layout, native=_has_offsets)
def _max_pool(
    x: Any, *, spatial: int, grid: tuple[Any, ...], save: bool, indices: bool
) -> tuple[Any, Vjp]:
    y, saved = _core.max_pool(*(x, spatial, *grid, save, indices))
    return with_indices(x, y, saved, spatial, grid, indices)


def with_indices(
    x: Any, y: Any, saved: Any, spatial: int, grid: tuple[Any, ...], indices: bool
) -> tuple[Any, Vjp]:
    """The rule's results: y, or (y, indices), which have no gradient."""
    shape = list(x.shape)

    def vjp(dys: Any, needs: tuple[bool, ...], passage: Any = None) -> tuple[Any, ...]:
        dy = dys[0] if indices else dys
        largest, version = kept
        # Windows over more axes than the convolution's are of several of its channels.
        if passage is None or spatial > passage[2] or largest._version != version:
            return (_core.max_pool_bwd(dy, saved, shape, spatial, *grid),)
        # Its derivative and sums are of the windows' largest elements only: made before their
        # gradients are scattered, they read a fraction of its output.
        kind, a, of, transposed, asked = passage
        dz, db = _core.conv_bwd_ending(
            dy, largest if kind else None, of, transposed, (kind, a), asked
        )
        is_image = saved.device == "cpu" and saved.layout == "nchw"
        if grid == _SIDE_BY_SIDE and is_image and not indices:
            return (Passed(dz, db, saved),)
        return (Passed(_core.max_pool_bwd(dz, saved, shape, spatial, *grid), db),)

    kept = [y, y._version]  # a list: y may be written in place, which only takes the passage away
    vjp.takes = "conv"  # type: ignore[attr-defined]
    return ((y, saved) if indices else y), vjp


def pooled(result: Any, indices: bool) -> Any:
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
    kernel = pair(op, "kernel_size", kernel_size, spatial)
    grid = (
        kernel,
        kernel if stride is None else pair(op, "stride", stride, spatial),
        pair(op, "padding", padding, spatial, 0),
        pair(op, "dilation", dilation, spatial),
        ceil_mode,
    )
    x = as_tensor(input)
    save = is_grad_enabled() and x.requires_grad
    result = apply(_max_pool, x, spatial=spatial, grid=grid, save=save, indices=return_indices)
    return pooled(result, return_indices)


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


@partial(_rules.keeps_layout, native=lambda x, **params: x.device == "cpu")
def _avg_pool(x: Any, *, spatial: int, grid: tuple[Any, ...]) -> tuple[Any, Vjp]:
    shape = list(x.shape)
    y = _core.avg_pool(x, spatial, *grid)
    return y, lambda dy, needs: (_core.avg_pool_bwd(dy, shape, spatial, *grid),)


def _avg_pool_nd(op: str, spatial: int, input: Any, window: Any, options: Any) -> Tensor:
    kernel_size, stride, padding = window
    kernel = pair(op, "kernel_size", kernel_size, spatial)
    steps = kernel if stride is None else pair(op, "stride", stride, spatial)
    grid = (kernel, steps, pair(op, "padding", padding, spatial, 0), *options)
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
