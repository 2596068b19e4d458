"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, ones, zeros

__all__ = ["LayerNorm"]


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
        self.normalized_shape, self.eps = shape, eps
        self.weight = self.bias = None
        if elementwise_affine:
            weight = ones(*shape)
            weight.requires_grad = True
            self.weight = weight
            if bias:
                b = zeros(*shape)
                b.requires_grad = True
                self.bias = b

    def forward(self, input: Any) -> Any:
        """Normalise each row."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"
