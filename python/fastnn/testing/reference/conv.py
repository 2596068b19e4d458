"""Convolutions by their definition: a loop over the kernel's elements, each a shifted picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.testing.reference.linear import Activation, activate

Array = np.ndarray[Any, np.dtype[np.float64]]
Grads = tuple[Array, Array, Array | None]
# Where an element of the kernel reads: its place, and the slices of both axes of the padded input.
Tap = tuple[int, int, slice, slice]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _pads(padding: Any, taps: tuple[int, int], dilation: tuple[int, int]) -> Any:
    """(begin, end) of both axes."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(p, p) for p in _pair(padding)]


def _taps(
    shape: tuple[int, ...], taps: tuple[int, int], stride: tuple[int, int], dilation: Any
) -> Iterator[Tap]:
    """Every element of the kernel; shape is that of the output's planes."""
    for i in range(taps[0]):
        for j in range(taps[1]):
            y, x = i * dilation[0], j * dilation[1]
            rows = slice(y, y + (shape[0] - 1) * stride[0] + 1, stride[0])
            yield i, j, rows, slice(x, x + (shape[1] - 1) * stride[1] + 1, stride[1])


def _pad(x: Array, pads: Any) -> Array:
    return np.pad(x, [(0, 0), (0, 0), *pads])


def _grouped(x: Array, groups: int) -> Array:
    """(batch, groups, channels of a group, ...)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def correlate(x: Array, w: Array, stride: Any, pads: Any, dilation: Any, groups: int) -> Array:
    """sum over the kernel of w[o, c, i, j] x[c, shifted], group by group; x has a batch axis."""
    padded = _grouped(_pad(x, pads), groups)
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(padded.shape[3:], dilation, w.shape[2:], stride, strict=True)
    ]
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, *size))
    for i, j, rows, cols in _taps((size[0], size[1]), w.shape[2:], stride, dilation):
        y += np.einsum("goc,ngcrs->ngors", weights[..., i, j], padded[..., rows, cols])
    return y.reshape(x.shape[0], w.shape[0], *size)


def correlate_vjp(
    dy: Array, x: Array, w: Array, stride: Any, pads: Any, dilation: Any, groups: int
) -> tuple[Array, Array]:
    """Every term of the sum, turned around: dx += w dy, dw += dy x."""
    padded = _grouped(_pad(x, pads), groups)
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    d = _grouped(dy, groups)
    dx, dw = np.zeros(padded.shape), np.zeros(weights.shape)
    for i, j, rows, cols in _taps(dy.shape[2:], w.shape[2:], stride, dilation):
        dx[..., rows, cols] += np.einsum("goc,ngors->ngcrs", weights[..., i, j], d)
        dw[..., i, j] = np.einsum("ngors,ngcrs->goc", d, padded[..., rows, cols])
    (top, bottom), (left, right) = pads
    whole = dx.reshape(x.shape[0], x.shape[1], *padded.shape[3:])
    inner = whole[..., top : whole.shape[2] - bottom, left : whole.shape[3] - right]
    return inner, dw.reshape(w.shape)


def _image(x: Array, spatial: int) -> Array:
    """(batch, channels, height, width)."""
    x = x if x.ndim == spatial + 2 else x[None]
    return x if spatial == 2 else x[:, :, None]


def _window(op: str, w: Array, options: dict[str, Any]) -> tuple[Any, Any, Any, int]:
    spatial = w.ndim - 2

    def pair(name: str, default: int, trivial: int) -> tuple[int, int]:
        value = options.get(name, default)
        if spatial == 1:
            value = (trivial, value if isinstance(value, int) else value[0])
        return _pair(value)

    stride, dilation = pair("stride", 1, 1), pair("dilation", 1, 1)
    padding = options.get("padding", 0)
    taps = (1, *w.shape[2:])[-2:] if spatial == 1 else w.shape[2:]
    if not isinstance(padding, str):
        padding = pair("padding", 0, 0)
    return stride, _pads(padding, taps, dilation), dilation, options.get("groups", 1)


def _add_bias(y: Array, b: Array | None) -> Array:
    return y if b is None else y + b[:, None, None]


def conv(
    x: Array, w: Array, b: Array | None = None, *, activation: Activation = None, **options: Any
) -> Array:
    """act(w * x + b), of one or two axes."""
    spatial = w.ndim - 2
    y = correlate(_image(x, spatial), _image(w, spatial), *_window("conv", w, options))
    y = activate(_add_bias(y, b), activation)[0]
    y = y if spatial == 2 else y[:, :, 0]
    return y if x.ndim == w.ndim else y[0]


def conv_vjp(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: Activation = None,
    **options: Any,
) -> Grads:
    """With dz = dy act'(z): the gradients of the correlation, and db = sum dz."""
    spatial = w.ndim - 2
    window = _window("conv", w, options)
    image, kernel = _image(x, spatial), _image(w, spatial)
    z = _add_bias(correlate(image, kernel, *window), b)
    dz = dy.reshape(z.shape) * activate(z, activation)[1]
    dx, dw = correlate_vjp(dz, image, kernel, *window)
    db = None if b is None else dz.sum(axis=(0, 2, 3))
    return dx.reshape(x.shape), dw.reshape(w.shape), db


def _transposed(x: Array, w: Array, options: dict[str, Any]) -> tuple[tuple[int, ...], Any]:
    """The shape of the output, with a batch axis, and the window of the convolution back."""
    stride, pads, dilation, groups = _window("conv_transpose", w, options)
    extra = _pair(options.get("output_padding", 0))
    size = [
        (n - 1) * s - p[0] - p[1] + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            x.shape[-2:], stride, pads, dilation, w.shape[2:], extra, strict=True
        )
    ]
    ends = [(p[0], p[1] - e) for p, e in zip(pads, extra, strict=True)]
    batch = x.shape[0] if x.ndim == 4 else 1
    return (batch, w.shape[1] * groups, *size), (stride, ends, dilation, groups)


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, *, activation: Activation = None, **options: Any
) -> Array:
    """act(v + b), where v is what the convolution of ``w`` has as gradient of its input for x."""
    y = activate(_spread(x, w, b, options), activation)[0]
    return y if x.ndim == 4 else y[0]


def _spread(x: Array, w: Array, b: Array | None, options: dict[str, Any]) -> Array:
    """Each element of x adds the kernel, times itself, to the padded output."""
    shape, (stride, pads, dilation, groups) = _transposed(x, w, options)
    height, width = (n + p[0] + max(p[1], 0) for n, p in zip(shape[2:], pads, strict=True))
    image = _grouped(_image(x, 2), groups)
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    wide = np.zeros((shape[0], groups, w.shape[1], height, width))
    for i, j, rows, cols in _taps(x.shape[-2:], w.shape[2:], stride, dilation):
        wide[..., rows, cols] += np.einsum("goc,ngors->ngcrs", weights[..., i, j], image)
    (top, _), (left, _) = pads
    y = wide[..., top : top + shape[2], left : left + shape[3]]
    return _add_bias(y.reshape(shape), b)


def conv_transpose2d_vjp(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: Activation = None,
    **options: Any,
) -> Grads:
    """dx is the convolution of dz, and dw that convolution's with x as its gradient."""
    shape, (stride, pads, dilation, groups) = _transposed(x, w, options)
    z = _spread(x, w, b, options)
    dz = dy.reshape(shape) * activate(z, activation)[1]
    # Padding below 0 is cropping.
    ends = [(p[0], max(p[1], 0)) for p in pads]
    cropped = dz[..., : shape[2] + min(pads[0][1], 0), : shape[3] + min(pads[1][1], 0)]
    dx = correlate(cropped, w, stride, ends, dilation, groups)
    dw = correlate_vjp(_image(x, 2), cropped, w, stride, ends, dilation, groups)[1]
    db = None if b is None else dz.sum(axis=(0, 2, 3))
    return dx.reshape(x.shape), dw, db
