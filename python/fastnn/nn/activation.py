"""Activation layers. A Sequential fuses those with a `fused` description into the layer before."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
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

    def __init__(self, a: float | None = None) -> None:
        super().__init__()
        self.a = a

    @property
    def fused(self) -> str | tuple[str, float]:
        """What ``F.linear(activation=...)`` takes."""
        return self.name if self.a is None else (self.name, self.a)

    def forward(self, input: Any) -> Any:
        """Apply the activation elementwise."""
        function = getattr(F, self.name)
        return function(input) if self.a is None else function(input, self.a)


class ReLU(_Activation):
    """max(x, 0); see :func:`fastnn.functional.relu`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.ReLU()([-1.0]).item()
        0.0
    """

    name = "relu"


class LeakyReLU(_Activation):
    """x, or negative_slope x below 0; see :func:`fastnn.functional.leaky_relu`."""

    name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.a}"


class ELU(_Activation):
    """x, or alpha (e^x - 1) below 0; see :func:`fastnn.functional.elu`."""

    name = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)

    def extra_repr(self) -> str:
        """Alpha."""
        return f"alpha={self.a}"


class SELU(_Activation):
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


class SiLU(_Activation):
    """x sigmoid(x); see :func:`fastnn.functional.silu`."""

    name = "silu"

    @property
    def fused(self) -> str | tuple[str, float]:
        """Swish with beta 1."""
        return ("silu", 1.0)


class Swish(_Activation):
    """x sigmoid(beta x); see :func:`fastnn.functional.swish`."""

    name = "swish"

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta)

    @property
    def fused(self) -> str | tuple[str, float]:
        """The kernel is silu's, with beta."""
        return ("silu", float(self.a or 0.0))

    def extra_repr(self) -> str:
        """Beta."""
        return f"beta={self.a}"


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
