"""Random weights scaled by a layer's fans and by the gain of its activation.

Var(W x) = fan_in Var(w) E(x^2): a variance of gain^2 / fan_in keeps the second moment on the way
forward, and gain^2 / fan_out that of the gradient on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _core
from fastnn._checks import checked
from fastnn.nn.init.fill import normal_, uniform_
from fastnn.tensor import Tensor, zeros

__all__ = [
    "calculate_fan_in_and_fan_out",
    "calculate_gain",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "orthogonal_",
    "xavier_normal_",
    "xavier_uniform_",
]

_FANS = ("fan_in", "fan_out")
_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
_GAINS: dict[str, Callable[[float], float]] = {
    **dict.fromkeys((*_LINEAR, "sigmoid"), lambda _: 1.0),
    "tanh": lambda _: 5 / 3,
    "relu": lambda _: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope * slope)),
    "selu": lambda _: 3 / 4,
}


@checked
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation of weights before an activation, torch's values.

    1 for linear layers, convolutions and sigmoid; 5/3 for tanh; sqrt(2) for relu;
    sqrt(2 / (1 + param^2)) for leaky_relu; 3/4 for selu.

    Args:
        nonlinearity: Name of the activation.
        param: Negative slope of leaky_relu, default 0.01.

    Raises:
        ValueError: If there is no such name.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"calculate_gain: expected one of {', '.join(map(repr, _GAINS))}, got {nonlinearity!r}"
        )
    return _GAINS[nonlinearity](0.01 if param is None else param)


@checked
def calculate_fan_in_and_fan_out(tensor: Tensor, gates: int = 1) -> tuple[int, int]:
    """How many inputs a unit sums, and how many units an input reaches.

    For a weight (out, in, *kernel), in the place of one output: in prod(kernel), out prod(kernel).
    A grouped convolution's weight has its own inputs only, (out, in / groups, *kernel).

    Args:
        tensor: The weight.
        gates: Number of weights stacked along the first axis: 4 for those of an LSTM, 3 of a GRU.

    Raises:
        ValueError: If it has less than two axes, or the gates do not divide the first.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.calculate_fan_in_and_fan_out(fn.zeros(16, 3, 5, 5))
        (75, 400)
    """
    if tensor.ndim < 2:
        raise ValueError(f"init: expected a tensor with at least 2 axes, got shape {tensor.shape}")
    if gates < 1 or tensor.shape[0] % gates:
        raise ValueError(
            f"init: expected gates that divide the first axis, got {gates} for shape {tensor.shape}"
        )
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] // gates * receptive


@checked
def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, *, mode: str = "average", gates: int = 1
) -> Tensor:
    """N(0, gain^2 / n), n the mean of fan_in and fan_out: for activations symmetric about 0.

    Args:
        tensor: Weight of shape (out, in, ...).
        gain: Scale, see :func:`calculate_gain`.
        mode: ``"average"`` as in the paper and in torch, or n alone: ``"fan_in"``, ``"fan_out"``.
        gates: See :func:`calculate_fan_in_and_fan_out`.

    Raises:
        ValueError: For a tensor of less than two axes, or another mode.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.xavier_normal_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    return _scaled(normal_, "xavier_normal_", tensor, gain, mode, gates=gates)


@checked
def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, *, mode: str = "average", gates: int = 1
) -> Tensor:
    """U(-l, l) of the variance of :func:`xavier_normal_`: l = gain sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: Weight of shape (out, in, ...).
        gain: Scale, see :func:`calculate_gain`.
        mode: ``"average"``, ``"fan_in"`` or ``"fan_out"``.
        gates: See :func:`calculate_fan_in_and_fan_out`.

    Raises:
        ValueError: For a tensor of less than two axes, or another mode.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.xavier_uniform_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    return _scaled(_symmetric, "xavier_uniform_", tensor, gain, mode, gates=gates)


@checked
def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """N(0, gain^2 / fan), He's: by default gain^2 = 2 / (1 + a^2), for (leaky, parametric) ReLU.

    Args:
        tensor: Weight of shape (out, in, ...).
        a: Negative slope of leaky_relu: what a PReLU starts with, 0 for ReLU.
        mode: ``"fan_in"`` keeps the second moment forward, ``"fan_out"`` backward.
        nonlinearity: What the gain is for, see :func:`calculate_gain`.

    Raises:
        ValueError: For a tensor of less than two axes, another mode or nonlinearity.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.kaiming_normal_(fn.zeros(2, 6), nonlinearity="relu").shape
        (2, 6)

    Source:
        He et al. 2015, "Delving deep into rectifiers".
    """
    return _kaiming(normal_, "kaiming_normal_", tensor, a, mode, nonlinearity)


@checked
def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """U(-l, l) of the variance of :func:`kaiming_normal_`: l = gain sqrt(3 / fan).

    Args:
        tensor: Weight of shape (out, in, ...).
        a: Negative slope of leaky_relu.
        mode: ``"fan_in"`` or ``"fan_out"``.
        nonlinearity: What the gain is for, see :func:`calculate_gain`.

    Raises:
        ValueError: For a tensor of less than two axes, another mode or nonlinearity.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.kaiming_uniform_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        He et al. 2015, "Delving deep into rectifiers".
    """
    return _kaiming(_symmetric, "kaiming_uniform_", tensor, a, mode, nonlinearity)


@checked
def lecun_normal_(tensor: Tensor) -> Tensor:
    """N(0, 1 / fan_in): for linear layers and SELU. Many call it Xavier's.

    Args:
        tensor: Weight of shape (out, in, ...).

    Raises:
        ValueError: For a tensor of less than two axes.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.lecun_normal_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        LeCun et al. 1998, "Efficient backprop"; Klambauer et al. 2017, "Self-normalizing neural
        networks".
    """
    return _scaled(normal_, "lecun_normal_", tensor, 1.0, "fan_in")


@checked
def lecun_uniform_(tensor: Tensor) -> Tensor:
    """U(-l, l) of the variance of :func:`lecun_normal_`: l = sqrt(3 / fan_in).

    Args:
        tensor: Weight of shape (out, in, ...).

    Raises:
        ValueError: For a tensor of less than two axes.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.init.lecun_uniform_(fn.zeros(2, 6)).shape
        (2, 6)

    Source:
        LeCun et al. 1998, "Efficient backprop".
    """
    return _scaled(_symmetric, "lecun_uniform_", tensor, 1.0, "fan_in")


@checked
def orthogonal_(tensor: Tensor, gain: float = 1.0, *, gates: int = 1) -> Tensor:
    """A random matrix with orthonormal rows, or columns where it is taller than wide, times gain.

    All singular values are equal, so that a product of many such layers keeps the lengths of all
    vectors: gradients do not collapse into few directions. Q of a QR decomposition of a Gaussian
    matrix, with the signs of R's diagonal, is distributed uniformly.

    Args:
        tensor: Weight; the axes after the first count as one.
        gain: Scale, see :func:`calculate_gain`.
        gates: Number of weights stacked along the first axis, each orthogonal of its own.

    Raises:
        ValueError: For a tensor of less than two axes, or gates that do not divide the first.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> q = fn.nn.init.orthogonal_(fn.zeros(2, 3)).numpy()
        >>> np.allclose(q @ q.T, np.eye(2), atol=1e-6)
        True

    Source:
        Saxe, McClelland, Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks"; Mezzadri 2007, "How to generate random matrices from the
        classical compact groups", for the signs.
    """
    calculate_fan_in_and_fan_out(tensor, gates)
    if not math.prod(tensor.shape):
        return tensor
    rows, columns = tensor.shape[0] // gates, math.prod(tensor.shape[1:])
    z = np.asarray(normal_(zeros(gates, rows, columns)), np.float64)
    tall = z if rows >= columns else z.transpose(0, 2, 1)
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -gain, gain)[:, None, :]
    weight = (q if rows >= columns else q.transpose(0, 2, 1)).reshape(tensor.shape)
    drawn: Any = _core.share(weight.astype(np.float32))
    return tensor.copy_(drawn.to(tensor.dtype).to(tensor.device))


def _kaiming(
    fill: Callable[[Tensor, float, float], Tensor],
    name: str,
    tensor: Tensor,
    a: float,
    mode: str,
    nonlinearity: str,
) -> Tensor:
    return _scaled(fill, name, tensor, calculate_gain(nonlinearity, a), mode, _FANS)


def _scaled(
    fill: Callable[[Tensor, float, float], Tensor],
    name: str,
    tensor: Tensor,
    gain: float,
    mode: str,
    modes: tuple[str, ...] = ("average", *_FANS),
    gates: int = 1,
) -> Tensor:
    """Fill by mean and standard deviation: 0 and gain / sqrt(fan)."""
    if mode not in modes:
        known = ", ".join(map(repr, modes))
        raise ValueError(f"{name}: expected mode to be one of {known}, got {mode!r}")
    fan_in, fan_out = calculate_fan_in_and_fan_out(tensor, gates)
    if not math.prod(tensor.shape):
        return tensor
    fan = {"fan_in": fan_in, "fan_out": fan_out, "average": (fan_in + fan_out) / 2}[mode]
    return fill(tensor, 0.0, gain / math.sqrt(fan))


def _symmetric(tensor: Tensor, mean: float, std: float) -> Tensor:
    """The uniform distribution of a mean and a standard deviation."""
    bound = math.sqrt(3) * std
    return uniform_(tensor, mean - bound, mean + bound)
