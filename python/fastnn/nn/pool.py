"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import functional as F
from fastnn.functional.pool import Size
from fastnn.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "FractionalMaxPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


def _plain(value: Any) -> Any:
    """A number or a tuple of them."""
    return tuple(value) if isinstance(value, Sequence) else value


class _MaxPool(Module):
    """The arguments of both max pooling layers."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = map(
            _plain, (kernel_size, padding, dilation)
        )
        self.stride = self.kernel_size if stride is None else _plain(stride)
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def extra_repr(self) -> str:
        """The window."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest of each window; see :func:`fastnn.functional.max_pool1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.MaxPool1d(2)(fn.ones(3, 8)).shape
        (3, 4)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.max_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class MaxPool2d(_MaxPool):
    """The largest of each window; see :func:`fastnn.functional.max_pool2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.MaxPool2d(2)(fn.ones(3, 8, 8)).shape
        (3, 4, 4)
    """

    @property
    def fused(self) -> int | None:
        """What ``F.conv2d(max_pool=...)`` takes, where it makes one op of both."""
        plain = not (self.return_indices or self.ceil_mode)
        is_two = all(size in (2, (2, 2)) for size in (self.kernel_size, self.stride))
        at_once = self.padding in (0, (0, 0)) and self.dilation in (1, (1, 1))
        return 2 if plain and is_two and at_once else None

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class _AvgPool(Module):
    """The arguments that both average pooling layers have."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding = _plain(kernel_size), _plain(padding)
        self.stride = self.kernel_size if stride is None else _plain(stride)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def extra_repr(self) -> str:
        """The window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window; see :func:`fastnn.functional.avg_pool1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AvgPool1d(2)(fn.ones(3, 8)).shape
        (3, 4)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(_AvgPool):
    """The mean of each window; see :func:`fastnn.functional.avg_pool2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AvgPool2d(2)(fn.ones(3, 8, 8)).shape
        (3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class _AdaptivePool(Module):
    """The argument of all adaptive pooling layers."""

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = _plain(output_size)

    def extra_repr(self) -> str:
        """The output's size."""
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(
        self, output_size: int | Sequence[int | None] | None, return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of windows that share the input out; see :func:`fastnn.functional.adaptive_avg_pool1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AdaptiveAvgPool1d(1)(fn.ones(3, 8)).shape
        (3, 1)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of windows that share the input out; 1 is global average pooling.

    See :func:`fastnn.functional.adaptive_avg_pool2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AdaptiveAvgPool2d(1)(fn.ones(3, 8, 8)).shape
        (3, 1, 1)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest of windows that share the input out.

    See :func:`fastnn.functional.adaptive_max_pool1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AdaptiveMaxPool1d(2)(fn.ones(3, 8)).shape
        (3, 2)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest of windows that share the input out.

    See :func:`fastnn.functional.adaptive_max_pool2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AdaptiveMaxPool2d((2, 3))(fn.ones(3, 8, 8)).shape
        (3, 2, 3)
    """

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class FractionalMaxPool2d(Module):
    """Max pooling by a fraction, in random places; as in torch, in evaluation mode too.

    See :func:`fastnn.functional.fractional_max_pool2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.FractionalMaxPool2d(2, output_ratio=0.5)(fn.ones(3, 8, 8)).shape
        (3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: Size,
        output_size: Size | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        *,
        pseudo_random: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.output_size, self.output_ratio = map(
            _plain, (kernel_size, output_size, output_ratio)
        )
        self.return_indices, self.pseudo_random = return_indices, pseudo_random

    def forward(self, input: Any) -> Any:
        """Pool."""
        return F.fractional_max_pool2d(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            pseudo_random=self.pseudo_random,
        )

    def extra_repr(self) -> str:
        """The window and the output's size."""
        return (
            f"kernel_size={self.kernel_size}, output_size={self.output_size}, "
            f"output_ratio={self.output_ratio}"
        )
