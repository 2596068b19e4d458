"""Dropout layers."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """Zeroes elements with probability p in training; see :func:`fastnn.functional.dropout`.

    Args:
        p: Probability of dropping, in [0, 1].

    Raises:
        ValueError: If p is not in [0, 1].

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Dropout(0.5).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected 0 <= p <= 1, got {p}")
        self.p = p

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input in evaluation mode."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
