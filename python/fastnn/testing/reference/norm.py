"""Normalisation, from its definitions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from fastnn.testing.reference.dropout import dropout
from fastnn.testing.reference.linear import Activation, activate

Array = np.ndarray[Any, np.dtype[np.float64]]
Grads = tuple[Array | None, ...]

EPS = float(np.float32(1e-5))


def statistics(x: Any, axes: tuple[int, ...], eps: float, centred: bool = True) -> tuple[Any, Any]:
    """xhat = (x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps); without a mean, if asked."""
    centre = x - x.mean(axis=axes, keepdims=True) if centred else x
    rstd = 1.0 / np.sqrt(np.square(centre).mean(axis=axes, keepdims=True) + eps)
    return centre * rstd, rstd


def _affine(xhat: Array, w: Array | None, b: Array | None, activation: Activation) -> Array:
    """act(xhat w + b), w and b as broadcast."""
    y = xhat if w is None else xhat * w
    return activate(y if b is None else y + b, activation)[0]


def _affine_vjp(
    dy: Array, xhat: Array, w: Array | None, b: Array | None, activation: Activation
) -> tuple[Array, Array, Array]:
    """d = dy act', g = d w, and d xhat."""
    z = xhat if w is None else xhat * w
    d = dy * activate(z if b is None else z + b, activation)[1]
    return d, d if w is None else d * w, d * xhat


def dx_of(g: Any, xhat: Any, rstd: Any, axes: tuple[int, ...], centred: bool = True) -> Any:
    """Dx = rstd (g - mean(g) - xhat mean(g xhat)); without a mean the first one is 0."""
    mean_g = g.mean(axis=axes, keepdims=True) if centred else 0.0
    return rstd * (g - mean_g - xhat * (g * xhat).mean(axis=axes, keepdims=True))


def _dropped(forward: Callable[..., Array]) -> Callable[..., Array]:
    """Dropout of the result, as an op of its own."""

    @wraps(forward)
    def fused(*inputs: Any, dropout_p: float = 0.0, **params: Any) -> Array:
        return dropout(forward(*inputs, **params), dropout_p)

    return fused


def _dropped_vjp(vjp: Callable[..., Grads]) -> Callable[..., Grads]:
    @wraps(vjp)
    def fused(dy: Array, *inputs: Any, dropout_p: float = 0.0, **params: Any) -> Grads:
        return vjp(dropout(dy, dropout_p), *inputs, **params)

    return fused


# ---- over the trailing axes ----------------------------------------------------------------------


def _trailing(normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


def _leading(x: Array, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(x.ndim - len(normalized_shape)))


@_dropped
def layer_norm(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = EPS,
    activation: Activation = None,
) -> Array:
    """act(xhat w + b)."""
    return _affine(statistics(x, _trailing(normalized_shape), eps)[0], w, b, activation)


@_dropped_vjp
def layer_norm_vjp(
    dy: Array,
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = EPS,
    activation: Activation = None,
) -> Grads:
    """With d = dy act' and g = d w: dx as above, dw = sum d xhat, db = sum d."""
    axes, rest = _trailing(normalized_shape), _leading(x, normalized_shape)
    xhat, rstd = statistics(x, axes, eps)
    d, g, dw = _affine_vjp(dy, xhat, w, b, activation)
    return (
        dx_of(g, xhat, rstd, axes),
        None if w is None else dw.sum(axis=rest),
        None if b is None else d.sum(axis=rest),
    )


@_dropped
def rms_norm(
    x: Array,
    w: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    activation: Activation = None,
) -> Array:
    """act(x / sqrt(mean(x^2) + eps) w)."""
    xhat = statistics(x, _trailing(normalized_shape), eps, centred=False)[0]
    return _affine(xhat, w, None, activation)


@_dropped_vjp
def rms_norm_vjp(
    dy: Array,
    x: Array,
    w: Array | None = None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    activation: Activation = None,
) -> Grads:
    """As layer_norm, without the mean."""
    axes, rest = _trailing(normalized_shape), _leading(x, normalized_shape)
    xhat, rstd = statistics(x, axes, eps, centred=False)
    _, g, dw = _affine_vjp(dy, xhat, w, None, activation)
    dx = dx_of(g, xhat, rstd, axes, centred=False)
    return dx, None if w is None else dw.sum(axis=rest)


# ---- over channels -------------------------------------------------------------------------------


def channels(p: Array | None, x: Array) -> Array | None:
    """A parameter per channel, shaped to be broadcast over x."""
    return None if p is None else p.reshape(-1, *[1] * (x.ndim - 2))


def _not_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _channel_grads(dx: Array, d: Array, dw: Array, w: Array | None, b: Array | None) -> Grads:
    axes = _not_channels(dx)
    return (
        dx,
        None if w is None else dw.sum(axis=axes),
        None if b is None else d.sum(axis=axes),
    )


def batch_statistics(
    x: Array, running_mean: Array | None, running_var: Array | None, training: bool, eps: float
) -> tuple[Array, Array]:
    """Xhat and rstd of the batch, or of the running statistics."""
    if training:
        return statistics(x, _not_channels(x), eps)
    mean, var = channels(running_mean, x), channels(running_var, x)
    assert mean is not None
    assert var is not None
    rstd = 1.0 / np.sqrt(var + eps)
    return (x - mean) * rstd, rstd


@_dropped
def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    w: Array | None = None,
    b: Array | None = None,
    *,
    training: bool = False,
    eps: float = EPS,
    activation: Activation = None,
) -> Array:
    """act(xhat w + b), statistics over all axes but the channels'."""
    xhat, _ = batch_statistics(x, running_mean, running_var, training, eps)
    return _affine(xhat, channels(w, x), channels(b, x), activation)


@_dropped_vjp
def batch_norm_vjp(
    dy: Array,
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    w: Array | None = None,
    b: Array | None = None,
    *,
    training: bool = False,
    eps: float = EPS,
    activation: Activation = None,
) -> Grads:
    """As layer_norm; dx = g rstd where the statistics are given."""
    xhat, rstd = batch_statistics(x, running_mean, running_var, training, eps)
    d, g, dw = _affine_vjp(dy, xhat, channels(w, x), channels(b, x), activation)
    dx = dx_of(g, xhat, rstd, _not_channels(x)) if training else g * rstd
    grads = _channel_grads(dx, d, dw, w, b)
    return grads[0], None, None, *grads[1:]


def running_statistics(x: Array, mean: Array, var: Array, momentum: float) -> tuple[Array, Array]:
    """The running statistics after a batch x, with the unbiased variance."""
    axes = _not_channels(x)
    batch = x.mean(axis=axes), x.var(axis=axes, ddof=1)
    return (1 - momentum) * mean + momentum * batch[0], (1 - momentum) * var + momentum * batch[1]


def grouped(x: Array, num_groups: int) -> Array:
    """X as (n, groups, all that is normalised together)."""
    return x.reshape(x.shape[0], num_groups, int(np.prod(x.shape[1:])) // num_groups)


@_dropped
def group_norm(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    num_groups: int,
    eps: float = EPS,
    activation: Activation = None,
) -> Array:
    """act(xhat w + b), statistics per sample and group of channels."""
    xhat = statistics(grouped(x, num_groups), (2,), eps)[0].reshape(x.shape)
    return _affine(xhat, channels(w, x), channels(b, x), activation)


@_dropped_vjp
def group_norm_vjp(
    dy: Array,
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    num_groups: int,
    eps: float = EPS,
    activation: Activation = None,
) -> Grads:
    """As layer_norm."""
    flat_xhat, rstd = statistics(grouped(x, num_groups), (2,), eps)
    d, g, dw = _affine_vjp(
        dy, flat_xhat.reshape(x.shape), channels(w, x), channels(b, x), activation
    )
    dx = dx_of(grouped(g, num_groups), flat_xhat, rstd, (2,)).reshape(x.shape)
    return _channel_grads(dx, d, dw, w, b)


@_dropped
def instance_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    w: Array | None = None,
    b: Array | None = None,
    *,
    use_input_stats: bool = True,
    eps: float = EPS,
    activation: Activation = None,
) -> Array:
    """A group per channel; batch norm, where the statistics are given."""
    if use_input_stats:
        return group_norm(x, w, b, num_groups=x.shape[1], eps=eps, activation=activation)
    return batch_norm(x, running_mean, running_var, w, b, eps=eps, activation=activation)


@_dropped_vjp
def instance_norm_vjp(
    dy: Array,
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    w: Array | None = None,
    b: Array | None = None,
    *,
    use_input_stats: bool = True,
    eps: float = EPS,
    activation: Activation = None,
) -> Grads:
    """As the forward."""
    if use_input_stats:
        dx, dw, db = group_norm_vjp(
            dy, x, w, b, num_groups=x.shape[1], eps=eps, activation=activation
        )
        return dx, None, None, dw, db
    return batch_norm_vjp(dy, x, running_mean, running_var, w, b, eps=eps, activation=activation)
