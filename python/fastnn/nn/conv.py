"""Convolution layers, under torch's names, arguments, initialisation and state_dict keys."""

from __future__ import annotations

import math
from typing import Any

from fastnn import functional as F
from fastnn._checks import check_whole
from fastnn.functional.activation import Activation
from fastnn.functional.conv import Padding
from fastnn.functional.pool import Size, pair
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, zeros

__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d"]


class _Conv(Module):
    """What convolution layers share: arguments and parameters.

    Weights are drawn as torch's: U(-l, l) with l = 1 / sqrt(weight.shape[1] * kernel elements).
    """

    bias: Tensor | None

    def _init(
        self,
        spatial: int,
        channels: tuple[int, int],
        kernel_size: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        transposed: bool = False,
    ) -> None:
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f"{name}: expected padding_mode 'zeros', got {padding_mode!r}")
        check_whole(name, in_channels=channels[0], out_channels=channels[1], groups=groups)
        for what, count in zip(("in_channels", "out_channels"), channels, strict=True):
            if count <= 0 or groups <= 0 or count % groups:
                raise ValueError(
                    f"{name}: expected {what} > 0 divisible by groups, got {count} and "
                    f"groups={groups}"
                )

        def axes(what: str, value: Size) -> tuple[int, ...]:
            return pair(name, what, value, spatial)[2 - spatial :]

        self.in_channels, self.out_channels = channels
        self.kernel_size = axes("kernel_size", kernel_size)
        self.stride, self.dilation = axes("stride", stride), axes("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else axes("padding", padding)
        self.groups, self.padding_mode = groups, padding_mode
        if min(self.kernel_size) <= 0:
            raise ValueError(f"{name}: expected kernel_size > 0, got {kernel_size}")
        first, second = reversed(channels) if not transposed else channels
        weight = zeros(first, second // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
        init.uniform_(weight, -bound, bound)
        weight.requires_grad = True
        self.weight = weight
        self.bias = None
        if bias:
            b = init.uniform_(zeros(self.out_channels), -bound, bound)
            b.requires_grad = True
            self.bias = b

    def extra_repr(self) -> str:
        """Channels, kernel, and what is not the default, as torch shows it."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        trivial = (0,) * len(self.stride)
        shown = {
            "padding": self.padding if self.padding != trivial else None,
            "dilation": self.dilation if max(self.dilation) > 1 else None,
            "output_padding": getattr(self, "output_padding", trivial),
            "groups": self.groups if self.groups != 1 else None,
            "bias": False if self.bias is None else None,
        }
        if shown["output_padding"] == trivial:
            shown["output_padding"] = None
        return text + "".join(f", {k}={v}" for k, v in shown.items() if v is not None)


class Conv1d(_Conv):
    """Convolution over the last axis; see :func:`fastnn.functional.conv1d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Elements of a kernel.
        stride: From window to window.
        padding: Zeros on both sides, 'valid' or 'same'.
        dilation: Distance of a kernel's elements.
        groups: Parts that channels are split into.
        bias: Whether there is a b.
        padding_mode: 'zeros'.

    Attributes:
        weight: (out_channels, in_channels / groups, kernel_size).
        bias: (out_channels,), or None.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Conv1d(3, 5, 3)(fn.ones(2, 3, 10)).shape
        (2, 5, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        window = (kernel_size, stride, padding, dilation)
        self._init(1, channels, *window, groups, bias, padding_mode)

    def forward(self, input: Any, activation: Activation = None) -> Any:
        """act(w * x + b)."""
        return F.conv1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            activation=activation,
        )


class Conv2d(_Conv):
    """Convolution over the last two axes; see :func:`fastnn.functional.conv2d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of a kernel, or one number for both.
        stride: From window to window.
        padding: Zeros on every side, 'valid' or 'same'.
        dilation: Distance of a kernel's elements.
        groups: Parts that channels are split into; in_channels of them: depthwise.
        bias: Whether there is a b.
        padding_mode: 'zeros'.

    Attributes:
        weight: (out_channels, in_channels / groups, height, width).
        bias: (out_channels,), or None.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Conv2d(3, 6, 5)(fn.ones(1, 3, 32, 32)).shape
        (1, 6, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        window = (kernel_size, stride, padding, dilation)
        self._init(2, channels, *window, groups, bias, padding_mode)

    def forward(
        self, input: Any, activation: Activation = None, max_pool: Size | None = None
    ) -> Any:
        """act(w * x + b), or the largest of its windows."""
        return F.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            activation=activation,
            max_pool=max_pool,
        )


class ConvTranspose2d(_Conv):
    """Transposed convolution; see :func:`fastnn.functional.conv_transpose2d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of a kernel, or one number for both.
        stride: From input to input, in the output.
        padding: Rows and columns that every side of the output lacks.
        output_padding: Rows and columns more at the end.
        groups: Parts that channels are split into.
        bias: Whether there is a b.
        dilation: Distance of a kernel's elements.
        padding_mode: 'zeros'.

    Attributes:
        weight: (in_channels, out_channels / groups, height, width).
        bias: (out_channels,), or None.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.ConvTranspose2d(6, 3, 2, stride=2)(fn.ones(1, 6, 14, 14)).shape
        (1, 3, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        window = (kernel_size, stride, padding, dilation)
        self._init(2, channels, *window, groups, bias, padding_mode, transposed=True)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 2, 0)

    def forward(self, input: Any, activation: Activation = None) -> Any:
        """act(the transposed convolution + b)."""
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            self.groups,
            self.dilation,
            activation=activation,
        )
