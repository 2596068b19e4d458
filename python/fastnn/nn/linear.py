"""Linear."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn._checks import check_whole
from fastnn.functional.activation import Activation
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, zeros

__all__ = ["Linear"]


class Linear(Module):
    """x W^T + b over the last axis, initialised like torch's: U(-1/sqrt(in), 1/sqrt(in)).

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        bias: Whether there is a b.

    Attributes:
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Raises:
        ValueError: If a size is negative.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Linear(3, 2)([[1.0, 2.0, 3.0]]).shape
        (1, 2)
    """

    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        check_whole("Linear", in_features=in_features, out_features=out_features)
        if in_features < 0 or out_features < 0:
            raise ValueError(
                f"Linear: expected sizes >= 0, got in_features={in_features}, "
                f"out_features={out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        weight = zeros(out_features, in_features)
        bound = in_features**-0.5 if in_features else 0.0
        init.uniform_(weight, -bound, bound)
        weight.requires_grad = True
        self.weight = weight
        self.bias = None
        if bias:
            b = init.uniform_(zeros(out_features), -bound, bound)
            b.requires_grad = True
            self.bias = b

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """dropout(act(x W^T + b))."""
        return F.linear(input, self.weight, self.bias, activation=activation, dropout_p=dropout_p)

    def extra_repr(self) -> str:
        """Sizes."""
        bias = "" if self.bias is not None else ", bias=False"
        return f"in_features={self.in_features}, out_features={self.out_features}{bias}"
