"""Normalisation over channels, each with the activation and dropout after it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn.functional.activation import Activation
from fastnn.functional.norm import After, apply_norm
from fastnn.tensor import Tensor, Vjp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _channel_vjp(
    op: str,
    inputs: tuple[Any, Any, Any],
    saved: Sequence[Any],
    groups: int,
    constant: bool,
    eps: float,
    after: After,
) -> Vjp:
    (x, w, b), (mean, var, draw) = inputs, saved
    kind, a, _, p = after
    bias = b if kind else None
    after = kind, a, draw, p

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.channel_norm_bwd(
            op, dy, x, w, bias, mean, var, groups, eps, constant, after, *needs
        )
        return dx, dw, db

    return vjp


_Buffers = tuple[Any, Any, Any]  # running_mean, running_var, num_batches_tracked


def _batch_norm(
    x: Any,
    w: Any,
    b: Any,
    *,
    running: _Buffers,
    training: bool,
    momentum: float | None,
    eps: float,
    after: After,
) -> tuple[Any, Vjp]:
    y, *saved = _core.batch_norm_fwd(x, *running, w, b, training, momentum, eps, after)
    return y, _channel_vjp("batch_norm", (x, w, b), saved, 0, not training, eps, after)


def _has_columns(x: Any, groups: int = 0, **params: Any) -> bool:
    """Whether the kernels take channels as columns; without groups, one by one."""
    channels: int = x.shape[1]
    return x.device == "cpu" and channels <= (groups or channels) * _core.NORM_COLUMNS


@partial(_rules.keeps_layout, native=_has_columns)
def _group_norm(
    x: Any, w: Any, b: Any, *, groups: int, eps: float, after: After
) -> tuple[Any, Vjp]:
    y, *saved = _core.group_norm_fwd(x, groups, w, b, eps, after)
    return y, _channel_vjp("group_norm", (x, w, b), saved, groups, False, eps, after)


@partial(_rules.keeps_layout, native=_has_columns)
def _instance_norm(
    x: Any,
    w: Any,
    b: Any,
    *,
    running: _Buffers,
    use_input_stats: bool,
    momentum: float | None,
    eps: float,
    after: After,
) -> tuple[Any, Vjp]:
    y, *saved = _core.instance_norm_fwd(x, *running, w, b, use_input_stats, momentum, eps, after)
    groups = y.shape[1] if use_input_stats else 0
    return y, _channel_vjp(
        "instance_norm", (x, w, b), saved, groups, not use_input_stats, eps, after
    )


def _running(op: str, mean: Any, var: Any, count: Any, updated: bool) -> _Buffers:
    """The buffers as the kernels take them: written in place, so they have to be Tensors."""
    named = (("running_mean", mean), ("running_var", var), ("num_batches_tracked", count))
    for name, value in named if updated else ():
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"{op}: expected {name} to be a Tensor, since training updates it, "
                f"got {type(value).__name__}"
            )
    if updated:
        return mean, var, count
    mean, var = (v if v is None else _core.to_dtype(_core.share(v), "float32") for v in (mean, var))
    return mean, var, None


def batch_norm(
    input: ArrayLike | Tensor,
    running_mean: ArrayLike | Tensor | None = None,
    running_var: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    num_batches_tracked: Tensor | None = None,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """drop(act((x - mean) / sqrt(var + eps) * weight + bias)), statistics per channel of the batch.

    In training the statistics are the batch's: the variance that normalises is that of the
    population, and running = (1 - momentum) running + momentum batch takes the unbiased one. Else
    they are the running ones. Sums are float64, so a common offset of 1e8 does no harm.

    Args:
        input: Array of shape (n, channels, ...).
        running_mean: (channels,) of float32: in training a Tensor to update, or None.
        running_var: As running_mean.
        weight: Array of shape (channels,), or None for ones.
        bias: Array of shape (channels,), or None for zeros.
        training: Whether the statistics are the batch's.
        momentum: Weight of the new batch, in [0, 1]; None for the average of all batches, whose
            number is num_batches_tracked.
        eps: Added to the variance, >= 0.
        num_batches_tracked: An int64 scalar that training increments, or None.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.
        dropout_p: Probability of dropping each element of the result; see :func:`layer_norm`.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit, or in training a channel has one value only. Nothing
            is updated then.
        TypeError: If a buffer to update is not a Tensor.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.batch_norm([[1.0], [3.0]], training=True, eps=0.0).numpy()
        array([[-1.],
               [ 1.]], dtype=float32)

    Source:
        Ioffe, Szegedy 2015, "Batch normalization: accelerating deep network training by reducing
        internal covariate shift".
    """
    running = _running("batch_norm", running_mean, running_var, num_batches_tracked, training)
    return apply_norm(
        "batch_norm",
        _batch_norm,
        activation,
        dropout_p,
        input,
        weight,
        bias,
        running=running,
        training=training,
        momentum=momentum,
        eps=eps,
    )


def group_norm(
    input: ArrayLike | Tensor,
    num_groups: int,
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """drop(act((x - mean) / sqrt(var + eps) * weight + bias)), per sample and group of channels.

    One group is layer norm over all but the first axis, a group per channel is instance norm.

    Args:
        input: Array of shape (n, channels, ...).
        num_groups: Number of groups, a divisor of the channels.
        weight: Array of shape (channels,), or None for ones.
        bias: Array of shape (channels,), or None for zeros.
        eps: Added to the variance, >= 0.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.
        dropout_p: Probability of dropping each element of the result; see :func:`layer_norm`.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit, or the groups do not divide the channels.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.group_norm([[1.0, 3.0, 5.0, 5.0]], 2, eps=1e-9).numpy()
        array([[-1.,  1.,  0.,  0.]], dtype=float32)

    Source:
        Wu, He 2018, "Group normalization".
    """
    return apply_norm(
        "group_norm",
        _group_norm,
        activation,
        dropout_p,
        input,
        weight,
        bias,
        groups=num_groups,
        eps=eps,
    )


def instance_norm(
    input: ArrayLike | Tensor,
    running_mean: ArrayLike | Tensor | None = None,
    running_var: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    num_batches_tracked: Tensor | None = None,
    activation: Activation = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """drop(act((x - mean) / sqrt(var + eps) * weight + bias)), per sample and channel.

    Args:
        input: Array of shape (n, channels, size, ...).
        running_mean: (channels,) of float32: a Tensor that takes the mean over the samples of
            their statistics, as in :func:`batch_norm`; or None.
        running_var: As running_mean.
        weight: Array of shape (channels,), or None for ones.
        bias: Array of shape (channels,), or None for zeros.
        use_input_stats: If False, the running statistics normalise, as in batch norm.
        momentum: Weight of the new statistics; see :func:`batch_norm`.
        eps: Added to the variance, >= 0.
        num_batches_tracked: An int64 scalar to increment, or None.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.
        dropout_p: Probability of dropping each element of the result; see :func:`layer_norm`.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit, or a channel has one element only.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.instance_norm([[[1.0, 3.0]]], eps=0.0).numpy()
        array([[[-1.,  1.]]], dtype=float32)

    Source:
        Ulyanov, Vedaldi, Lempitsky 2016, "Instance normalization: the missing ingredient for fast
        stylization".
    """
    running = _running(
        "instance_norm", running_mean, running_var, num_batches_tracked, use_input_stats
    )
    return apply_norm(
        "instance_norm",
        _instance_norm,
        activation,
        dropout_p,
        input,
        weight,
        bias,
        running=running,
        use_input_stats=use_input_stats,
        momentum=momentum,
        eps=eps,
    )
