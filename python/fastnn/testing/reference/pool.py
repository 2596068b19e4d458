"""Pooling: windows taken one after the other, as lists of the elements that each axis gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.testing.reference.random import blocks

Array = np.ndarray[Any, np.dtype[np.float64]]
# The elements that each window of an axis takes: of shape (size,), or (planes, size) where planes
# have windows of their own.
Windows = list[np.ndarray[Any, np.dtype[np.int64]]]


def _planes(x: Array, spatial: int) -> Array:
    """(planes, height, width)."""
    h = x.shape[-2] if spatial == 2 else 1
    return x.reshape(int(np.prod(x.shape[: x.ndim - spatial], dtype=np.int64)), h, x.shape[-1])


def _unplanes(y: Array, x: Array, spatial: int) -> Array:
    return y.reshape((*x.shape[: x.ndim - spatial], *y.shape[3 - spatial :]))


def _pair(value: Any, spatial: int, trivial: int) -> tuple[int, int]:
    values = (value,) * spatial if isinstance(value, int) else tuple(value)
    return values if spatial == 2 else (trivial, *values)  # type: ignore[return-value]


def starts(n: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> list[int]:
    """Where the windows of an axis begin, in the padded axis shifted by -pad."""
    room = (n + 2 * pad - dilation * (kernel - 1) - 1) / stride
    count = (math.ceil(room) if ceil else math.floor(room)) + 1
    return [o * stride - pad for o in range(count) if o * stride < n + pad]


def grid(
    shape: tuple[int, int], spatial: int, kernel: Any, options: dict[str, Any]
) -> tuple[Windows, Windows, list[list[int]]]:
    """Windows of rows and columns without what is outside, and the sizes that padding gives."""
    kernels = _pair(kernel, spatial, 1)
    stride = options.get("stride")
    strides = kernels if stride is None else _pair(stride, spatial, 1)
    pads = _pair(options.get("padding", 0), spatial, 0)
    dilations = _pair(options.get("dilation", 1), spatial, 1)
    windows, sizes = [], []
    for n, k, s, p, d in zip(shape, kernels, strides, pads, dilations, strict=True):
        begin = starts(n, k, s, p, d, options.get("ceil_mode", False))
        windows.append([i[(i >= 0) & (i < n)] for i in (b + d * np.arange(k) for b in begin)])
        sizes.append([min(b + k, n + p) - b for b in begin])
    return windows[0], windows[1], sizes


def _pick(window: Array) -> Any:
    """The first of the largest; the last NaN, if there is one."""
    nan = np.isnan(window)
    return np.where(
        nan.any(axis=-1),
        window.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1),
        np.argmax(np.where(nan, -np.inf, window), axis=-1),
    )


def _max(x: Array, rows: Windows, cols: Windows) -> tuple[Array, Any]:
    """The largest of each window, and its flat index in the plane."""
    planes, flat_x = len(x), x.reshape(len(x), x.shape[1] * x.shape[2])
    at = np.zeros((planes, len(rows), len(cols)), np.int64)
    for i, r in enumerate(rows):
        for j, c in enumerate(cols):
            window = r[..., :, None] * x.shape[2] + c[..., None, :]
            size = r.shape[-1] * c.shape[-1]
            flat = np.broadcast_to(window, (planes, *window.shape[-2:])).reshape(planes, size)
            k = _pick(np.take_along_axis(flat_x, flat, axis=1))
            at[:, i, j] = np.take_along_axis(flat, k[:, None], axis=1)[:, 0]
    y = np.take_along_axis(flat_x, at.reshape(planes, len(rows) * len(cols)), axis=1)
    return y.reshape(at.shape), at


def _scatter(dy: Array, at: Any, shape: tuple[int, ...]) -> Array:
    dx = np.zeros((shape[0], shape[1] * shape[2]))
    plane = np.broadcast_to(np.arange(shape[0])[:, None, None], at.shape)
    np.add.at(dx, (plane, at), dy.reshape(at.shape))
    return dx


def _max_both(x: Array, dy: Array | None, spatial: int, rows: Windows, cols: Windows) -> Any:
    planes = _planes(x, spatial)
    y, at = _max(planes, rows, cols)
    if dy is None:
        return _unplanes(y, x, spatial), at
    return (_scatter(dy, at, planes.shape).reshape(x.shape),)


def _shape(x: Array, spatial: int) -> tuple[int, int]:
    return (x.shape[-2] if spatial == 2 else 1, x.shape[-1])


def _max_pool(x: Array, dy: Array | None, spatial: int, kernel: Any, options: Any) -> Any:
    rows, cols, _ = grid(_shape(x, spatial), spatial, kernel, options)
    return _max_both(x, dy, spatial, rows, cols)


def max_pool1d(x: Array, kernel_size: Any, **options: Any) -> Array:
    """The largest of each window of the last axis."""
    return np.asarray(_max_pool(x, None, 1, kernel_size, options)[0])


def max_pool1d_vjp(dy: Array, x: Array, kernel_size: Any, **options: Any) -> tuple[Array]:
    """dy where the largest element was."""
    return _max_pool(x, dy, 1, kernel_size, options)  # type: ignore[no-any-return]


def max_pool2d(x: Array, kernel_size: Any, **options: Any) -> Array:
    """The largest of each window of the last two axes."""
    return np.asarray(_max_pool(x, None, 2, kernel_size, options)[0])


def max_pool2d_vjp(dy: Array, x: Array, kernel_size: Any, **options: Any) -> tuple[Array]:
    """dy where the largest element was."""
    return _max_pool(x, dy, 2, kernel_size, options)  # type: ignore[no-any-return]


def adaptive(n: int, out: int) -> Windows:
    """Window i reaches from floor(i n / out) to ceil((i + 1) n / out)."""
    return [np.arange(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def _adaptive(x: Array, output_size: Any, spatial: int) -> tuple[Windows, Windows]:
    sizes, shape = _pair(1 if output_size is None else output_size, spatial, 1), _shape(x, spatial)
    h, w = (n if s is None or output_size is None else s for s, n in zip(sizes, shape, strict=True))
    return adaptive(shape[0], h), adaptive(shape[1], w)


def adaptive_max_pool1d(x: Array, output_size: Any) -> Array:
    """The largest of each window."""
    return np.asarray(_max_both(x, None, 1, *_adaptive(x, output_size, 1))[0])


def adaptive_max_pool1d_vjp(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    """dy where the largest element was."""
    return _max_both(x, dy, 1, *_adaptive(x, output_size, 1))  # type: ignore[no-any-return]


def adaptive_max_pool2d(x: Array, output_size: Any) -> Array:
    """The largest of each window."""
    return np.asarray(_max_both(x, None, 2, *_adaptive(x, output_size, 2))[0])


def adaptive_max_pool2d_vjp(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    """dy where the largest element was."""
    return _max_both(x, dy, 2, *_adaptive(x, output_size, 2))  # type: ignore[no-any-return]


# ---- average -------------------------------------------------------------------------------------


def _avg_both(
    x: Array, dy: Array | None, spatial: int, rows: Windows, cols: Windows, divisors: Array
) -> Any:
    planes = _planes(x, spatial)
    y, dx = np.zeros((len(planes), len(rows), len(cols))), np.zeros(planes.shape)
    for i, r in enumerate(rows):
        for j, c in enumerate(cols):
            window = np.ix_(np.arange(len(planes)), r, c)
            y[:, i, j] = planes[window].sum(axis=(1, 2)) / divisors[i, j]
            if dy is not None:
                dx[window] += dy.reshape(y.shape)[:, i, j, None, None] / divisors[i, j]
    return _unplanes(y, x, spatial) if dy is None else (dx.reshape(x.shape),)


def _avg_pool(x: Array, dy: Array | None, spatial: int, kernel: Any, options: Any) -> Any:
    rows, cols, sizes = grid(_shape(x, spatial), spatial, kernel, options)
    if not options.get("count_include_pad", True):
        sizes = [[len(i) for i in axis] for axis in (rows, cols)]
    divisors = np.outer(*(np.asarray(s, np.float64) for s in sizes))
    if options.get("divisor_override") is not None:
        divisors = np.full(divisors.shape, float(options["divisor_override"]))
    return _avg_both(x, dy, spatial, rows, cols, divisors)


def avg_pool1d(x: Array, kernel_size: Any, **options: Any) -> Array:
    """The mean of each window of the last axis."""
    return np.asarray(_avg_pool(x, None, 1, kernel_size, options))


def avg_pool1d_vjp(dy: Array, x: Array, kernel_size: Any, **options: Any) -> tuple[Array]:
    """dy shared out over the window."""
    return _avg_pool(x, dy, 1, kernel_size, options)  # type: ignore[no-any-return]


def avg_pool2d(x: Array, kernel_size: Any, **options: Any) -> Array:
    """The mean of each window of the last two axes."""
    return np.asarray(_avg_pool(x, None, 2, kernel_size, options))


def avg_pool2d_vjp(dy: Array, x: Array, kernel_size: Any, **options: Any) -> tuple[Array]:
    """dy shared out over the window."""
    return _avg_pool(x, dy, 2, kernel_size, options)  # type: ignore[no-any-return]


def _adaptive_avg(x: Array, dy: Array | None, output_size: Any, spatial: int) -> Any:
    rows, cols = _adaptive(x, output_size, spatial)
    sizes = [np.array([len(i) for i in axis], np.float64) for axis in (rows, cols)]
    return _avg_both(x, dy, spatial, rows, cols, np.outer(*sizes))


def adaptive_avg_pool1d(x: Array, output_size: Any) -> Array:
    """The mean of each window."""
    return np.asarray(_adaptive_avg(x, None, output_size, 1))


def adaptive_avg_pool1d_vjp(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    """dy shared out over the window."""
    return _adaptive_avg(x, dy, output_size, 1)  # type: ignore[no-any-return]


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    """The mean of each window."""
    return np.asarray(_adaptive_avg(x, None, output_size, 2))


def adaptive_avg_pool2d_vjp(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    """dy shared out over the window."""
    return _adaptive_avg(x, dy, output_size, 2)  # type: ignore[no-any-return]


# ---- fractional ----------------------------------------------------------------------------------


def pseudo_random(n: int, out: int, kernel: int, u: float) -> list[int]:
    """floor(alpha (i + u)) - floor(alpha u) with alpha = (n - k) / (out - 1); the last is n - k."""
    alpha = (n - kernel) / (out - 1) if out > 1 else 0.0
    return [int((i + u) * alpha) - int(u * alpha) for i in range(out - 1)] + [n - kernel]


def random_steps(n: int, out: int, kernel: int, words: list[int]) -> list[int]:
    """Steps of floor(alpha) and one more in the order that words draw: step i is large with
    probability (large steps left) / (steps left)."""
    if out == 1:
        return [n - kernel]
    small, large = divmod(n - kernel, out - 1)
    begin = [0]
    for i in range(out - 1):
        takes = words[i] * (out - 1 - i) >> 32 < large
        large -= takes
        begin.append(begin[-1] + small + takes)
    return begin


def _regions(x: Array, kernel: Any, output_size: Any, options: dict[str, Any]) -> Any:
    (h, w), (kh, kw) = x.shape[-2:], _pair(kernel, 2, 1)
    oh, ow = _pair(output_size, 2, 1)
    per_plane = -(-(oh + ow) // 4) + 1
    planes = int(np.prod(x.shape[:-2], dtype=np.int64))
    words = blocks(max(planes, 1) * per_plane, "dropout", 0, 0).reshape(-1, 4 * per_plane)

    def begin(p: int) -> tuple[list[int], list[int]]:
        drawn = [int(v) for v in words[p]]
        if options.get("pseudo_random", True):
            u = [(v >> 8) / 2**24 for v in drawn]
            return pseudo_random(h, oh, kh, u[1]), pseudo_random(w, ow, kw, u[0])
        below = 4 * -(-ow // 4)
        return random_steps(h, oh, kh, drawn[below:]), random_steps(w, ow, kw, drawn)

    drawn = [begin(p) for p in range(planes)]
    return tuple(
        list(np.reshape([d[axis] for d in drawn], (planes, n)).astype(np.int64).T[..., None] + i)
        for axis, n, i in ((0, oh, np.arange(kh)), (1, ow, np.arange(kw)))
    )


def fractional_max_pool2d(x: Array, kernel_size: Any, output_size: Any, **options: Any) -> Array:
    """The largest of each region; regions are drawn for each plane."""
    regions = _regions(x, kernel_size, output_size, options)
    return np.asarray(_max_both(x, None, 2, *regions)[0])


def fractional_max_pool2d_vjp(
    dy: Array, x: Array, kernel_size: Any, output_size: Any, **options: Any
) -> tuple[Array]:
    """dy where the largest element was."""
    regions = _regions(x, kernel_size, output_size, options)
    return _max_both(x, dy, 2, *regions)  # type: ignore[no-any-return]
