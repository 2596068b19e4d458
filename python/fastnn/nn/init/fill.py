"""Filling a Tensor with a constant, or with draws of one distribution."""

from __future__ import annotations

from fastnn import _core, random
from fastnn._checks import checked
from fastnn.tensor import Tensor

__all__ = ["constant_", "normal_", "ones_", "uniform_", "zeros_"]


@checked
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with U[a, b), in place.

    Raises:
        ValueError: Unless a <= b.

    Example:
        >>> import fastnn as fn
        >>> 0 <= fn.nn.init.uniform_(fn.zeros(1)).item() < 1
        True
    """
    if not a <= b:
        raise ValueError(f"uniform_: expected a <= b, got a={a}, b={b}")
    _core.uniform_(tensor, _core.rng_draw(random.generator("init")), a, b)
    return tensor


@checked
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with N(mean, std^2), in place.

    A small std such as 0.01 serves shallow networks; in deep ones the signal dies away.

    Raises:
        ValueError: If std is negative.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.normal_(fn.zeros(2), mean=3.0, std=0.0).numpy()
        array([3., 3.], dtype=float32)
    """
    if not std >= 0:
        raise ValueError(f"normal_: expected std >= 0, got {std}")
    zeros, ones = (_core.full(tensor.shape, v, tensor.dtype, tensor.device) for v in (0.0, 1.0))
    z = _core.sample_normal(zeros, ones, _core.rng_draw(random.generator("init")))
    return tensor.copy_(z * std + mean)


@checked
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value, in place. For biases: units of equal weights would stay equal.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.constant_(fn.zeros(1), 0.01).numpy()
        array([0.01], dtype=float32)
    """
    return tensor.copy_(_core.full(tensor.shape, val, tensor.dtype, tensor.device))


@checked
def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros, in place.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.zeros_(fn.ones(1)).item()
        0.0
    """
    return constant_(tensor, 0.0)


@checked
def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones, in place.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.ones_(fn.zeros(1)).item()
        1.0
    """
    return constant_(tensor, 1.0)
