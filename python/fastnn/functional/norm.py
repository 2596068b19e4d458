"""Normalisation, over rows and over channels, each with the activation after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.functional.activation import Activation, activate, resolve_activation
from fastnn.tensor import Rule, Tensor, Vjp, apply

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def _apply(op: str, rule: Rule, activation: Activation, *inputs: Any, **params: Any) -> Tensor:
    kind, saves_output, a = resolve_activation(op, activation)
    # Fused on the CPU only, so far: elsewhere a 16-bit z is rounded before its activation.
    if kind and getattr(inputs[0], "device", "cpu") != "cpu":
        y: Tensor = apply(rule, *inputs, kind=0, a=0.0, **params)
        return activate((kind, saves_output, a), y, a)
    result: Tensor = apply(rule, *inputs, kind=kind, a=a, **params)
    return result


# ---- over the trailing axes ----------------------------------------------------------------------


def _row_norm(
    x: Any,
    w: Any,
    b: Any,
    *,
    shape: tuple[int, ...],
    eps: float,
    centred: bool,
    kind: int,
    a: float,
) -> tuple[Any, Vjp]:
    y, mean, rstd = _core.row_norm_fwd(x, shape, w, b, eps, centred, kind, a)
    axes, bias = len(shape), b if kind else None  # an activation needs its input again

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.row_norm_bwd(dy, x, w, bias, mean, rstd, axes, centred, kind, a, *needs)
        return dx, dw, db

    return y, vjp


def _sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    one = isinstance(normalized_shape, int)
    return (normalized_shape,) if one else tuple(normalized_shape)  # type: ignore[return-value,arg-type]


def layer_norm(
    input: ArrayLike | Tensor,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | Tensor | None = None,
    bias: ArrayLike | Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: Activation = None,
) -> Tensor:
    """act((x - mean) / sqrt(var + eps) * weight + bias), statistics over the trailing axes.

    Mean and variance (of the population) are accumulated in float64, so a common offset of 1e8 does
    no harm; x - mean has to be a float32 number, so |x| up to half the largest is fine.

    Args:
        input: Array of shape (..., *normalized_shape).
        normalized_shape: Sizes of the axes to normalise over, the last ones of the input.
        weight: Array of shape normalized_shape, or None for ones.
        bias: Array of shape normalized_shape, or None for zeros.
        eps: Added to the variance, >= 0. With 0 a constant row is NaN (0 / 0, as in torch).
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored; on CUDA afterwards, as an op of its own.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.layer_norm([[1.0, 3.0]], 2, eps=0.0).numpy()
        array([[-1.,  1.]], dtype=float32)

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization".
    """
    shape = _sizes(normalized_shape)
    return _apply(
        "layer_norm", _row_norm, activation, input, weight, bias, shape=shape, eps=eps, centred=True
    )


def rms_norm(
    input: ArrayLike | Tensor,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | Tensor | None = None,
    eps: float | None = None,
    *,
    activation: Activation = None,
) -> Tensor:
    """act(x / sqrt(mean(x^2) + eps) * weight), the mean over the trailing axes.

    Args:
        input: Array of shape (..., *normalized_shape).
        normalized_shape: Sizes of the axes to normalise over, the last ones of the input.
        weight: Array of shape normalized_shape, or None for ones.
        eps: Added to the mean, >= 0; None for the distance from 1 to the next number of the
            input's dtype.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.

    Returns:
        Tensor of the input's shape and dtype.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.rms_norm([[3.0, -3.0]], 2, eps=0.0).numpy()
        array([[ 1., -1.]], dtype=float32)

    Source:
        Zhang, Sennrich 2019, "Root mean square layer normalization".
    """
    shape = _sizes(normalized_shape)
    if eps is None:
        eps = _EPSILON.get(input.dtype, 0.0) if isinstance(input, Tensor) else _EPSILON["float32"]
    return _apply(
        "rms_norm", _row_norm, activation, input, weight, None, shape=shape, eps=eps, centred=False
    )


# ---- over channels -------------------------------------------------------------------------------


def _channel_vjp(
    op: str,
    inputs: tuple[Any, Any, Any],
    saved: tuple[Any, Any],
    groups: int,
    constant: bool,
    eps: float,
    kind: int,
    a: float,
) -> Vjp:
    (x, w, b), (mean, var) = inputs, saved
    bias = b if kind else None

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dw, db = _core.channel_norm_bwd(
            op, dy, x, w, bias, mean, var, groups, eps, constant, kind, a, *needs
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
    kind: int,
    a: float,
) -> tuple[Any, Vjp]:
    y, mean, var = _core.batch_norm_fwd(x, *running, w, b, training, momentum, eps, kind, a)
    return y, _channel_vjp("batch_norm", (x, w, b), (mean, var), 0, not training, eps, kind, a)


def _group_norm(
    x: Any, w: Any, b: Any, *, groups: int, eps: float, kind: int, a: float
) -> tuple[Any, Vjp]:
    y, mean, var = _core.group_norm_fwd(x, groups, w, b, eps, kind, a)
    return y, _channel_vjp("group_norm", (x, w, b), (mean, var), groups, False, eps, kind, a)


def _instance_norm(
    x: Any,
    w: Any,
    b: Any,
    *,
    running: _Buffers,
    use_input_stats: bool,
    momentum: float | None,
    eps: float,
    kind: int,
    a: float,
) -> tuple[Any, Vjp]:
    y, mean, var = _core.instance_norm_fwd(
        x, *running, w, b, use_input_stats, momentum, eps, kind, a
    )
    groups = y.shape[1] if use_input_stats else 0
    return y, _channel_vjp(
        "instance_norm", (x, w, b), (mean, var), groups, not use_input_stats, eps, kind, a
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
) -> Tensor:
    """act((x - mean) / sqrt(var + eps) * weight + bias), statistics per channel over the batch.

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
    return _apply(
        "batch_norm",
        _batch_norm,
        activation,
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
) -> Tensor:
    """act((x - mean) / sqrt(var + eps) * weight + bias), per sample and group of channels.

    One group is layer norm over all but the first axis, a group per channel is instance norm.

    Args:
        input: Array of shape (n, channels, ...).
        num_groups: Number of groups, a divisor of the channels.
        weight: Array of shape (channels,), or None for ones.
        bias: Array of shape (channels,), or None for zeros.
        eps: Added to the variance, >= 0.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored.

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
    return _apply(
        "group_norm", _group_norm, activation, input, weight, bias, groups=num_groups, eps=eps
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
) -> Tensor:
    """act((x - mean) / sqrt(var + eps) * weight + bias), per sample and channel.

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
    return _apply(
        "instance_norm",
        _instance_norm,
        activation,
        input,
        weight,
        bias,
        running=running,
        use_input_stats=use_input_stats,
        momentum=momentum,
        eps=eps,
    )
