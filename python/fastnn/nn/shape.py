"""Layers that change a shape and nothing else."""

from __future__ import annotations

import math
from typing import Any

from fastnn.nn.module import Module
from fastnn.tensor import as_tensor

__all__ = ["Flatten"]


class Flatten(Module):
    """Some axes as one, by default all but the batch: images become rows of features.

    Args:
        start_dim: The first of the axes; negative from the end.
        end_dim: The last of them.

    Raises:
        ValueError: When called, if the input has no such axes.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Flatten()(fn.ones(2, 3, 4)).shape
        (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        """Reshape the input; nothing is copied."""
        x = as_tensor(input)
        axes = range(len(x.shape))
        if not {self.start_dim, self.end_dim} <= {*axes, *(i - len(axes) for i in axes)} or (
            axes[self.start_dim] > axes[self.end_dim]
        ):
            raise ValueError(
                f"Flatten: expected axes {self.start_dim} to {self.end_dim} of the input, got "
                f"input {x.shape}"
            )
        start, end = axes[self.start_dim], axes[self.end_dim] + 1
        return x.reshape(*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:])

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
