"""Initialisers. All draw from the 'init' stream, so a seed fixes them."""

from __future__ import annotations

import math

from fastnn import _core, random
from fastnn.tensor import Tensor

__all__ = ["constant_", "kaiming_uniform_", "normal_", "uniform_", "xavier_uniform_"]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with U[a, b), in place.

    Example:
        >>> import fastnn as fn
        >>> 0 <= fn.nn.init.uniform_(fn.zeros(1)).item() < 1
        True
    """
    _core.uniform_(tensor, _core.rng_draw(random.generator("init")), a, b)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with N(mean, std^2), in place.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.normal_(fn.zeros(2), mean=3.0, std=0.0).numpy()
        array([3., 3.], dtype=float32)
    """
    zeros, ones = (_core.full(tensor.shape, v, tensor.dtype, tensor.device) for v in (0.0, 1.0))
    z = _core.sample_normal(zeros, ones, _core.rng_draw(random.generator("init")))
    return tensor.copy_(z * std + mean)


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Fill with one value, in place.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.constant_(fn.zeros(1), 0.01).numpy()
        array([0.01], dtype=float32)
    """
    return tensor.copy_(_core.full(tensor.shape, value, tensor.dtype, tensor.device))


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"init: expected a tensor with at least 2 axes, got shape {tensor.shape}")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def kaiming_uniform_(tensor: Tensor, a: float = 0.0) -> Tensor:
    """U(-l, l) with l = sqrt(6 / ((1 + a^2) fan_in)): keeps the second moment through (leaky) ReLU.

    Args:
        tensor: Weight of shape (out, in, ...).
        a: Negative slope of the activation.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.kaiming_uniform_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        He et al. 2015, "Delving deep into rectifiers".
    """
    bound = math.sqrt(6 / ((1 + a * a) * _fans(tensor)[0]))
    return uniform_(tensor, -bound, bound)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-l, l) with l = gain sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: Weight of shape (out, in, ...).
        gain: Scale.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.xavier_uniform_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)
