"""Residual and dense blocks, of layers that are there. Their sums are fused with the activation."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.functional.activation import Activation
from fastnn.nn.conv import Conv2d
from fastnn.nn.dropout import Dropout
from fastnn.nn.module import Module
from fastnn.nn.norm import BatchNorm2d
from fastnn.nn.pool import AvgPool2d
from fastnn.tensor import no_grad, zeros

__all__ = ["BasicBlock", "Bottleneck", "DenseBlock", "Residual", "Transition"]


class Residual(Module):
    """act(x + body(x)): what the body learns is the difference from its input.

    Args:
        body: Any Module; its output has the shape of its input, or of the shortcut's output.
        shortcut: What the input passes before it is added; None: nothing.
        activation: Of the sum, fused with it: a name or (name, parameter); None: none.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Residual(fn.nn.Linear(3, 3), activation="relu")(fn.ones(2, 3)).shape
        (2, 3)

    Source:
        He et al. 2016, "Deep residual learning for image recognition".
    """

    def __init__(
        self, body: Module, shortcut: Module | None = None, activation: Activation = None
    ) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, input: Any) -> Any:
        """The sum."""
        short = input if self.shortcut is None else self.shortcut(input)
        return F.add(self.body(input), short, activation=self.activation)


class _Projection(Module):
    """A 1 x 1 convolution and a norm, for a shortcut whose size or channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        # torchvision's keys: downsample.0 and downsample.1
        setattr(self, "0", Conv2d(in_channels, out_channels, 1, stride, bias=False))
        setattr(self, "1", BatchNorm2d(out_channels))

    def forward(self, input: Any) -> Any:
        """Project."""
        for _, layer in self.children():
            input = layer(input)
        return input


class _ResidualConv(Module):
    """What BasicBlock and Bottleneck share: convolutions with norms, then the sum.

    The stride is that of the first 3 x 3 convolution.
    """

    downsample: Module | None

    def __init__(
        self, kernels: tuple[int, ...], widths: tuple[int, ...], stride: int, zero_init: bool
    ) -> None:
        super().__init__()
        if min(widths) <= 0 or stride <= 0:
            raise ValueError(
                f"{type(self).__name__}: expected channels and stride > 0, got channels "
                f"{widths[0]} to {widths[-1]} and stride {stride}"
            )
        self.in_channels, self.out_channels = widths[0], widths[-1]
        self.stride, self.zero_init = stride, zero_init
        self._count = len(kernels)
        for i, size in enumerate(kernels):
            step = stride if i == kernels.index(3) else 1
            conv = Conv2d(widths[i], widths[i + 1], size, step, size // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", BatchNorm2d(widths[i + 1]))
        if zero_init:
            with no_grad():
                weight = getattr(self, f"bn{self._count}").weight
                weight.copy_(zeros(*weight.shape))
        same = stride == 1 and widths[0] == widths[-1]
        self.downsample = None if same else _Projection(widths[0], widths[-1], stride)

    def forward(self, input: Any) -> Any:
        """relu(shortcut(x) + norm(conv(... relu(norm(conv(x))) ...)))."""
        y = input
        for i in range(1, self._count + 1):
            inner = "relu" if i < self._count else None
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y), activation=inner)
        short = input if self.downsample is None else self.downsample(input)
        return F.add(y, short, activation="relu")


class BasicBlock(_ResidualConv):
    """Two 3 x 3 convolutions with norms, and their input added: a block of ResNet-18 and -34.

    y = relu(x + bn2(conv2(relu(bn1(conv1(x)))))). Where the stride or the channels change, x passes
    a 1 x 1 convolution and a norm (``downsample``). Parameters have torchvision's names.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the first convolution.
        zero_init: Whether the last norm's weight starts at 0: the block is then relu(x) at first,
            which helps deep networks to start.

    Raises:
        ValueError: If channels or stride are not positive.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.BasicBlock(3, 6, stride=2)(fn.ones(2, 3, 8, 8)).shape
        (2, 6, 4, 4)

    Source:
        He et al. 2016, "Deep residual learning for image recognition"; zero_init: Goyal et al.
        2017, "Accurate, large minibatch SGD".
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, zero_init: bool = False
    ) -> None:
        super().__init__((3, 3), (in_channels, out_channels, out_channels), stride, zero_init)


class Bottleneck(_ResidualConv):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with norms, and their input added: of ResNet-50 and up.

    The two inner layers have a quarter of the output's channels; the stride is that of the 3 x 3
    convolution. Otherwise as :class:`BasicBlock`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of 4.
        stride: Of the 3 x 3 convolution.
        zero_init: Whether the last norm's weight starts at 0.

    Raises:
        ValueError: If channels or stride are not positive, or out_channels is no multiple of 4.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Bottleneck(8, 8)(fn.ones(2, 8, 4, 4)).shape
        (2, 8, 4, 4)

    Source:
        He et al. 2016, "Deep residual learning for image recognition".
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, zero_init: bool = False
    ) -> None:
        if out_channels % 4:
            raise ValueError(
                f"Bottleneck: expected out_channels to be a multiple of 4, got {out_channels}"
            )
        inner = out_channels // 4
        widths = in_channels, inner, inner, out_channels
        super().__init__((1, 3, 1), widths, stride, zero_init)


class _DenseLayer(Module):
    """Norm, relu, 3 x 3 convolution; before that, with a bottleneck, norm, relu, 1 x 1."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int | None, p: float) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(in_channels)
        self.norm2: BatchNorm2d | None = None
        if bottleneck is None:
            self.conv1 = Conv2d(in_channels, growth, 3, padding=1, bias=False)
        else:
            inner = bottleneck * growth
            self.conv1 = Conv2d(in_channels, inner, 1, bias=False)
            self.norm2 = BatchNorm2d(inner)
            self.conv2 = Conv2d(inner, growth, 3, padding=1, bias=False)
        self.dropout = Dropout(p)

    def forward(self, input: Any) -> Any:
        """The new channels."""
        y = self.conv1(self.norm1(input, activation="relu"))
        if self.norm2 is not None:
            y = self.conv2(self.norm2(y, activation="relu"))
        return self.dropout(y)


class DenseBlock(Module):
    """Layers that read the outputs of all layers before them: x_i = H_i([x_0, ..., x_(i-1)]).

    H is a norm, relu and a 3 x 3 convolution to ``growth_rate`` channels; with ``bn_size``, a norm,
    relu and a 1 x 1 convolution to bn_size * growth_rate channels come first. Names of parameters
    are torchvision's: ``denselayer1.norm1.weight``, and so on.

    Args:
        num_layers: Number of layers.
        in_channels: Channels of the input.
        growth_rate: Channels that a layer adds.
        bn_size: Width of the 1 x 1 convolution in growth rates; None: there is none.
        drop_rate: Probability of dropping what a layer adds, in training.

    Attributes:
        out_channels: in_channels + num_layers * growth_rate.

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.DenseBlock(3, 4, 2)(fn.ones(2, 4, 8, 8)).shape
        (2, 10, 8, 8)

    Source:
        Huang et al. 2017, "Densely connected convolutional networks".
    """

    def __init__(
        self, num_layers: int, in_channels: int, growth_rate: int, bn_size: int | None = 4,
        drop_rate: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(num_layers, in_channels, growth_rate, 1 if bn_size is None else bn_size) <= 0:
            raise ValueError(
                f"DenseBlock: expected sizes > 0, got num_layers={num_layers}, "
                f"in_channels={in_channels}, growth_rate={growth_rate}, bn_size={bn_size}"
            )
        self.num_layers, self.in_channels, self.growth_rate = num_layers, in_channels, growth_rate
        self.bn_size, self.drop_rate = bn_size, drop_rate
        self.out_channels = in_channels + num_layers * growth_rate
        for i in range(num_layers):
            layer = _DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            setattr(self, f"denselayer{i + 1}", layer)

    def forward(self, input: Any) -> Any:
        """The input and what all layers have added, as channels."""
        for _, layer in self.children():
            input = F.cat([input, layer(input)], dim=1)
        return input


class Transition(Module):
    """Between dense blocks: norm, relu, 1 x 1 convolution, average pooling to half the size.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; half as many are usual.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Transition(8, 4)(fn.ones(2, 8, 6, 6)).shape
        (2, 4, 3, 3)

    Source:
        Huang et al. 2017, "Densely connected convolutional networks".
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.norm = BatchNorm2d(in_channels)
        self.conv = Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = AvgPool2d(2)

    def forward(self, input: Any) -> Any:
        """Fewer and smaller channels."""
        return self.pool(self.conv(self.norm(input, activation="relu")))
