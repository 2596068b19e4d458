"""Convolutions of one or two axes and their transpose, with the activation fused into them.

Inputs are (batch, channels, length) or (batch, channels, height, width), or without the batch axis;
weights are torch's, (out, in / groups, height, width), and (in, out / groups, ...) of a transposed
convolution. As in torch it is a correlation: kernels are not turned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn.functional.activation import Activation, resolve_activation
from fastnn.functional.pool import Size, max_pool2d, pair
from fastnn.tape import Passed
from fastnn.tensor import Tensor, Vjp, apply, as_tensor, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Padding = Size | str
# (stride, padding at the beginning, padding at the end, dilation, groups), pairs of both axes.
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], int]


@_rules.keeps_layout
def _conv(
    x: Any,
    w: Any,
    b: Any,
    *,
    spatial: int,
    transposed: bool,
    window: Window,
    activation: tuple[int, bool, float],
    recording: bool,
) -> tuple[Any, Vjp]:
    kind, saves_output, a = activation
    options = (spatial, transposed, window, (kind, a))
    y, z = _core.conv_fwd(x, w, b, *options, recording and kind != 0 and not saves_output)
    saved = None if kind == 0 else y if saves_output else z

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if not isinstance(dy, Passed):
            dx, dw, db = _core.conv_bwd(dy, x, w, saved, *options, needs)
            return dx, dw, db
        if dy.places is not None:
            dx, dw = _core.conv_bwd_pooled(dy.dz, dy.places, x, w, *options[:-1], *needs[:2])
            return dx, dw, dy.db
        need_db = needs[2] and dy.db is None
        plain = (*options[:-1], (0, 0.0), (*needs[:2], need_db))
        dx, dw, db = _core.conv_bwd(dy.dz, x, w, None, *plain)
        return dx, dw, db if need_db else dy.db

    if recording and saves_output:
        asked = getattr(b, "requires_grad", False)
        vjp.passage = kind, a, spatial, transposed, asked  # type: ignore[attr-defined]
    return y, vjp


@_rules.keeps_layout
def _conv_pooled(
    x: Any,
    w: Any,
    b: Any,
    *,
    window: Window,
    activation: tuple[int, bool, float],
    recording: bool,
) -> tuple[Any, Vjp]:
    kind, _, a = activation
    y, places = _core.conv_fwd_pooled(x, w, b, window, (kind, a), recording)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        # Of the windows' largest elements, the only ones with a gradient.
        largest = y if kind else None
        dz, db = _core.conv_bwd_ending(dy, largest, 2, False, (kind, a), needs[2])
        dx, dw = _core.conv_bwd_pooled(dz, places, x, w, 2, False, window, *needs[:2])
        return dx, dw, db

    return y, vjp


def _padding(
    op: str, padding: Padding, spatial: int, w: Any, stride: Any, dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding at the beginning and at the end of both axes."""
    if not isinstance(padding, str):
        pad = pair(op, "padding", padding, spatial, 0)
        return pad, pad
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ValueError(
            f"{op}: expected padding to be numbers, 'valid' or 'same', got {padding!r}"
        )
    if any(s != 1 for s in stride):
        raise ValueError(f"{op}: expected stride 1 with padding 'same', got {stride[-spatial:]}")
    taps = (1, *w.shape[2:])[-2:]
    total = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    begin = (total[0] // 2, total[1] // 2)
    return begin, (total[0] - begin[0], total[1] - begin[1])


def _convolve(
    op: str,
    spatial: int,
    arrays: tuple[Any, Any, Any],
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    activation: Activation,
    output_padding: Size | None = None,
    max_pool: Size | None = None,
) -> Tensor:
    x, w, b = arrays
    steps = pair(op, "stride", stride, spatial)
    apart = pair(op, "dilation", dilation, spatial)
    if isinstance(padding, str):
        w = as_tensor(w)
    begin, end = _padding(op, padding, spatial, w, steps, apart)
    if output_padding is not None:
        extra = pair(op, "output_padding", output_padding, spatial, 0)
        end = (end[0] - extra[0], end[1] - extra[1])
    window = (steps, begin, end, apart, groups)
    known = resolve_activation(op, activation)
    kind, saves_output, _ = known
    recording = is_grad_enabled()
    windows = None if max_pool is None else pair(op, "max_pool", max_pool, spatial)
    if windows == (2, 2) and (kind == 0 or saves_output):
        pooled: Tensor = apply(
            _conv_pooled, x, w, b, window=window, activation=known, recording=recording
        )
        return pooled
    result: Tensor = apply(
        _conv,
        x,
        w,
        b,
        spatial=spatial,
        transposed=output_padding is not None,
        window=window,
        activation=known,
        recording=recording,
    )
    return result if windows is None else max_pool2d(result, windows)


def conv1d(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    activation: Activation = None,
) -> Tensor:
    """act(w * x + b) over the last axis; see :func:`conv2d`.

    Args:
        input: Array of shape (batch, in, length) or (in, length).
        weight: Array of shape (out, in / groups, kernel).
        bias: Array of shape (out,), or None.
        stride: From window to window.
        padding: Zeros on both sides, 'valid' for none or 'same' for as many outputs as inputs.
        dilation: Distance of a kernel's elements.
        groups: Parts that channels are split into; each output sees those of its part.
        activation: Name of an activation, or (name, parameter), fused as in :func:`linear`.

    Returns:
        Tensor of shape (..., out, out_length).

    Raises:
        ValueError: If an argument is out of range, shapes do not fit or the kernel does not.
        TypeError: If a dtype is not float32, on cuda also bfloat16 or float16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.conv1d([[1.0, 2.0, 4.0]], [[[-1.0, 1.0]]]).numpy()
        array([[1., 2.]], dtype=float32)
    """
    arrays = (input, weight, bias)
    return _convolve("conv1d", 1, arrays, stride, padding, dilation, groups, activation)


def conv2d(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    activation: Activation = None,
    max_pool: Size | None = None,
) -> Tensor:
    """act(b[o] + sum over (c, i, j) of w[o, c, i, j] x[c, r t + i d - p, s t + j d - p]) at (r, s).

    With stride t, dilation d and padding p; what is outside the image is 0. The channels of group g
    of the output see those of group g of the input.

    Args:
        input: Array of shape (batch, in, height, width) or (in, height, width).
        weight: Array of shape (out, in / groups, kernel height, kernel width).
        bias: Array of shape (out,), or None.
        stride: From window to window, one number or (height, width).
        padding: Zeros on every side, 'valid' for none or 'same' for as many outputs as inputs.
        dilation: Distance of a kernel's elements.
        groups: Parts that channels are split into; as many as channels is a depthwise convolution.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored; its derivative and the bias gradient are fused in backward.
        max_pool: Windows of :func:`max_pool2d`, whose largest elements are returned; None: there is
            no pooling. With 2 it is one op, which on the CPU stores nothing of what is pooled
            where its kernels can pool as they go.

    Returns:
        Tensor of shape (..., out, floor((n + 2 p - d (k - 1) - 1) / t) + 1 for each axis), or of
        the windows on that.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit or the kernel does not.
        TypeError: If a dtype is not float32, on cuda also bfloat16 or float16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> image = [[[1.0, 2.0], [3.0, 4.0]]]
        >>> fn.functional.conv2d(image, fn.ones(1, 1, 2, 2), [0.5]).numpy()
        array([[[10.5]]], dtype=float32)

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition"; groups:
        Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep CNNs".
    """
    arrays = (input, weight, bias)
    window = (stride, padding, dilation, groups)
    return _convolve("conv2d", 2, arrays, *window, activation, max_pool=max_pool)


def conv_transpose2d(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    activation: Activation = None,
) -> Tensor:
    """The transpose of conv2d as a linear map: x[c, r, s] w[c, o] is added at (r t - p, s t - p).

    With the same arguments its output has the size of the input that conv2d would give this one,
    and ``output_padding`` says which of those that the stride cannot tell apart.

    Args:
        input: Array of shape (batch, in, height, width) or (in, height, width).
        weight: Array of shape (in, out / groups, kernel height, kernel width).
        bias: Array of shape (out,), or None.
        stride: From input to input, in the output.
        padding: Rows and columns that every side of the output lacks.
        output_padding: Rows and columns more at the end, less than stride or dilation.
        groups: Parts that channels are split into.
        dilation: Distance of a kernel's elements.
        activation: Name of an activation, or (name, parameter), fused as in :func:`linear`.

    Returns:
        Tensor of shape (..., out, (n - 1) t - 2 p + d (k - 1) + output_padding + 1 for each axis).

    Raises:
        ValueError: If an argument is out of range, shapes do not fit or no output is left.
        TypeError: If a dtype is not float32, on cuda also bfloat16 or float16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.conv_transpose2d([[[1.0, 2.0]]], [[[[1.0, 10.0]]]]).numpy()
        array([[[ 1., 12., 20.]]], dtype=float32)

    Source:
        Zeiler et al. 2010, "Deconvolutional networks".
    """
    return _convolve(
        "conv_transpose2d",
        2,
        (input, weight, bias),
        stride,
        padding,
        dilation,
        groups,
        activation,
        output_padding,
    )
