"""Normalisation layers. A Sequential fuses the activation and the dropout after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fastnn import functional as F
from fastnn._checks import check_number, check_whole
from fastnn.functional.activation import Activation
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, ones, tensor, zeros

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LayerNorm",
    "RMSNorm",
]


def _parameter(value: Tensor) -> Tensor:
    value.requires_grad = True
    return value


class LayerNorm(Module):
    """Layer normalisation over the trailing axes; see :func:`fastnn.functional.layer_norm`.

    Args:
        normalized_shape: Sizes of the axes to normalise over.
        eps: Added to the variance.
        elementwise_affine: Whether there are weight (ones) and bias (zeros).
        bias: Whether there is a bias.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.LayerNorm(4)([[1.0, 2.0, 3.0, 4.0]]).shape
        (1, 4)
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        check_number("LayerNorm", "eps", eps)
        self.normalized_shape, self.eps = shape, eps
        self.weight = _parameter(ones(*shape)) if elementwise_affine else None
        self.bias = _parameter(zeros(*shape)) if elementwise_affine and bias else None

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Normalise each row."""
        return F.layer_norm(
            input,
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
            activation=activation,
            dropout_p=dropout_p,
        )

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """Normalisation by the root mean square; see :func:`fastnn.functional.rms_norm`.

    Args:
        normalized_shape: Sizes of the axes to normalise over.
        eps: Added to the mean square; None for the distance from 1 to the next number.
        elementwise_affine: Whether there is a weight (ones).

    Example:
        >>> import fastnn as fn
        >>> fn.nn.RMSNorm(4)([[1.0, 2.0, 3.0, 4.0]]).shape
        (1, 4)
    """

    weight: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape, self.eps = shape, eps
        self.weight = _parameter(ones(*shape)) if elementwise_affine else None

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Normalise each row."""
        return F.rms_norm(
            input,
            self.normalized_shape,
            self.weight,
            self.eps,
            activation=activation,
            dropout_p=dropout_p,
        )

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Normalisation of groups of channels; see :func:`fastnn.functional.group_norm`.

    Args:
        num_groups: Number of groups, a divisor of num_channels.
        num_channels: Size of the second axis.
        eps: Added to the variance.
        affine: Whether there are weight (ones) and bias (zeros).

    Raises:
        ValueError: If the groups do not divide the channels.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.GroupNorm(2, 4)([[1.0, 2.0, 3.0, 4.0]]).shape
        (1, 4)
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: expected num_groups that divides the {num_channels} channels, "
                f"got {num_groups}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.affine = affine
        self.weight = _parameter(ones(num_channels)) if affine else None
        self.bias = _parameter(zeros(num_channels)) if affine else None

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Normalise the groups of each sample."""
        return F.group_norm(
            input,
            self.num_groups,
            self.weight,
            self.bias,
            self.eps,
            activation=activation,
            dropout_p=dropout_p,
        )

    def extra_repr(self) -> str:
        """Groups, channels and eps."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _ChannelNorm(Module):
    """Parameters and running statistics per channel."""

    shapes: ClassVar[dict[int, str]]  # what the input may be, by number of axes
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_whole(name, num_features=num_features)
        check_number(name, "eps", eps)
        if momentum is not None:
            check_number(name, "momentum", momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = _parameter(ones(num_features)) if affine else None
        self.bias = _parameter(zeros(num_features)) if affine else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features))
            self.register_buffer("running_var", ones(num_features))
            self.register_buffer("num_batches_tracked", tensor(0))

    def _call(
        self, function: Any, input: Any, use_input: bool, activation: Activation, dropout_p: float
    ) -> Any:
        x = input if hasattr(input, "shape") else tensor(input)
        if len(x.shape) not in self.shapes:
            expected = " or ".join(self.shapes.values())
            raise ValueError(
                f"{function.__name__}: expected input of shape {expected}, got {tuple(x.shape)}"
            )
        return function(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input,
            self.momentum,
            self.eps,
            num_batches_tracked=self.num_batches_tracked,
            activation=activation,
            dropout_p=dropout_p,
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Normalise by the batch's statistics in training, by the running ones else."""
        return self._call(
            F.batch_norm, input, self.training or self.running_mean is None, activation, dropout_p
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (n, channels) or (n, channels, length).

    See :func:`fastnn.functional.batch_norm`.

    Args:
        num_features: Number of channels.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics; None for the average of all.
        affine: Whether there are weight (ones) and bias (zeros).
        track_running_stats: Whether there are running statistics; without, evaluation uses the
            batch's too.

    Attributes:
        running_mean: (num_features,), a buffer, as running_var and num_batches_tracked.

    Example:
        >>> import fastnn as fn
        >>> layer = fn.nn.BatchNorm1d(1)
        >>> _ = layer([[1.0], [3.0]])
        >>> layer.running_mean.numpy(), layer.running_var.numpy()
        (array([0.2], dtype=float32), array([1.1], dtype=float32))
    """

    shapes: ClassVar[dict[int, str]] = {2: "(n, channels)", 3: "(n, channels, length)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (n, channels, height, width).

    The arguments are those of :class:`BatchNorm1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.BatchNorm2d(3)(fn.ones(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
    """

    shapes: ClassVar[dict[int, str]] = {4: "(n, channels, height, width)"}


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Normalise each sample's channels; by the running statistics if tracked, in evaluation."""
        return self._call(
            F.instance_norm,
            input,
            self.training or self.running_mean is None,
            activation,
            dropout_p,
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each sample of (n, channels, length).

    See :func:`fastnn.functional.instance_norm`.

    Args:
        num_features: Number of channels.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics; None for the average of all.
        affine: Whether there are weight (ones) and bias (zeros).
        track_running_stats: Whether there are running statistics, for evaluation.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.InstanceNorm1d(1, eps=0.0)([[[1.0, 3.0]]]).numpy()
        array([[[-1.,  1.]]], dtype=float32)
    """

    shapes: ClassVar[dict[int, str]] = {3: "(n, channels, length)"}


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each image of (n, channels, height, width).

    The arguments are those of :class:`InstanceNorm1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.InstanceNorm2d(3)(fn.ones(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
    """

    shapes: ClassVar[dict[int, str]] = {4: "(n, channels, height, width)"}
