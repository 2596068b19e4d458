"""Activation layers. A Sequential fuses those with a `fused` description into the layer before.

``inplace`` is accepted where torch has it, and is a wish: results and gradients are the same, and
the input is overwritten where :mod:`fastnn.functional.activation` says that this can be. What a
Sequential fuses needs no memory of its own anyway.
"""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module, parameter
from fastnn.tensor import Tensor

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSoftmax",
    "Maxout",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Swish",
    "Tanh",
]


class _Activation(Module):
    """An elementwise activation: its name for fusion, and the parameter, if it has one."""

    name = ""

    def __init__(self, a: float | None = None, inplace: bool = False) -> None:
        super().__init__()
        self.a, self.inplace = a, inplace

    @property
    def fused(self) -> str | tuple[str, float]:
        """What ``F.linear(activation=...)`` takes."""
        return self.name if self.a is None else (self.name, self.a)

    def forward(self, input: Any) -> Any:
        """Apply the activation elementwise."""
        arguments = () if self.a is None else (self.a,)
        inplace = {"inplace": True} if self.inplace else {}
        return getattr(F, self.name)(input, *arguments, **inplace)


class _Plain(_Activation):
    """An activation whose only argument is inplace."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(None, inplace)


class ReLU(_Plain):
    """max(x, 0); see :func:`fastnn.functional.relu`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.ReLU()([-1.0]).item()
        0.0
    """

    name = "relu"


class ReLU6(_Plain):
    """min(max(x, 0), 6); see :func:`fastnn.functional.relu6`."""

    name = "relu6"


class Hardsigmoid(_Plain):
    """min(max(x + 3, 0), 6) / 6; see :func:`fastnn.functional.hardsigmoid`."""

    name = "hardsigmoid"


class Hardswish(_Plain):
    """x hardsigmoid(x); see :func:`fastnn.functional.hardswish`."""

    name = "hardswish"


class Hardtanh(Module):
    """min(max(x, min_val), max_val); see :func:`fastnn.functional.hardtanh`."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Any) -> Any:
        """Apply the activation elementwise."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        """The limits."""
        return f"min_val={self.min_val}, max_val={self.max_val}"


class LeakyReLU(_Activation):
    """x, or negative_slope x below 0; see :func:`fastnn.functional.leaky_relu`."""

    name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope, inplace)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.a}"


class ELU(_Activation):
    """x, or alpha (e^x - 1) below 0; see :func:`fastnn.functional.elu`."""

    name = "elu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha, inplace)

    def extra_repr(self) -> str:
        """Alpha."""
        return f"alpha={self.a}"


class SELU(_Plain):
    """Scaled ELU; see :func:`fastnn.functional.selu`."""

    name = "selu"


class Sigmoid(_Activation):
    """1 / (1 + e^-x); see :func:`fastnn.functional.sigmoid`."""

    name = "sigmoid"


class Tanh(_Activation):
    """tanh x; see :func:`fastnn.functional.tanh`."""

    name = "tanh"


class Softplus(_Activation):
    """log(1 + e^(beta x)) / beta; see :func:`fastnn.functional.softplus`."""

    name = "softplus"

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta)

    def extra_repr(self) -> str:
        """Beta."""
        return f"beta={self.a}"


class SiLU(_Plain):
    """x sigmoid(x); see :func:`fastnn.functional.silu`."""

    name = "silu"

    @property
    def fused(self) -> str | tuple[str, float]:
        """Swish with beta 1."""
        return ("silu", 1.0)


class Swish(_Activation):
    """x sigmoid(beta x); see :func:`fastnn.functional.swish`.

    Args:
        beta: Sharpness, or where it starts.
        trainable: Whether beta is a parameter, of shape (1,).

    Example:
        >>> import fastnn as fn
        >>> [name for name, _ in fn.nn.Swish(trainable=True).named_parameters()]
        ['beta']
    """

    name = "swish"
    beta: Tensor | None

    def __init__(self, beta: float = 1.0, trainable: bool = False) -> None:
        super().__init__(beta)
        self.beta = parameter([beta]) if trainable else None

    @property
    def fused(self) -> str | tuple[str, float] | None:  # type: ignore[override]
        """The kernel is silu's, with beta; a trained beta is not fused."""
        return ("silu", float(self.a or 0.0)) if self.beta is None else None

    def forward(self, input: Any) -> Any:
        """Apply swish elementwise."""
        return F.swish(input, float(self.a or 0.0) if self.beta is None else self.beta)

    def extra_repr(self) -> str:
        """Beta."""
        return f"beta={self.a}" if self.beta is None else f"beta={self.a}, trainable=True"


class PReLU(Module):
    """x, or weight x below 0, with weight trained; see :func:`fastnn.functional.prelu`.

    Keep the weight out of weight decay: it would pull the layer towards relu.

    Args:
        num_parameters: 1, or the number of channels (axis 1).
        init: Where the weight starts.

    Attributes:
        weight: (num_parameters,).

    Example:
        >>> import fastnn as fn
        >>> fn.nn.PReLU()([-4.0]).item()
        -1.0
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.channels, self.init = num_parameters, init
        self.weight = parameter([init] * num_parameters)

    def forward(self, input: Any) -> Any:
        """Apply prelu elementwise."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """How many."""
        return f"num_parameters={self.channels}"


class Maxout(Module):
    """The largest of several linear units: Linear(in, pieces out), then the maximum over pieces.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        pieces: Linear functions for each output.
        bias: Whether they have a bias.

    Attributes:
        linear: The layer of all pieces; rows j out to (j + 1) out of its weight are piece j.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Maxout(3, 2)([[1.0, 2.0, 3.0]]).shape
        (1, 2)

    Source:
        Goodfellow et al. 2013, "Maxout networks".
    """

    def __init__(
        self, in_features: int, out_features: int, pieces: int = 2, bias: bool = True
    ) -> None:
        super().__init__()
        if pieces < 1:
            raise ValueError(f"Maxout: expected pieces >= 1, got {pieces}")
        self.in_features, self.out_features, self.pieces = in_features, out_features, pieces
        self.linear = Linear(in_features, pieces * out_features, bias)

    def forward(self, input: Any) -> Any:
        """max over j of W_j x + b_j."""
        return F.maxout(self.linear(input), self.pieces)

    def extra_repr(self) -> str:
        """How many."""
        return f"pieces={self.pieces}"


class GELU(_Activation):
    """x Phi(x); see :func:`fastnn.functional.gelu`.

    Args:
        approximate: ``"none"`` or ``"tanh"``.
    """

    name = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    @property
    def fused(self) -> str:
        """The kernel of either form."""
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def forward(self, input: Any) -> Any:
        """Apply gelu elementwise."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Which form."""
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """Softmax over the last axis; see :func:`fastnn.functional.softmax`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Apply softmax to each row."""
        return F.softmax(input, self.dim)


class LogSoftmax(Module):
    """log softmax over the last axis; see :func:`fastnn.functional.log_softmax`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Apply log_softmax to each row."""
        return F.log_softmax(input, self.dim)
