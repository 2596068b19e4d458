"""Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn._checks import check_whole
from fastnn.functional.embedding import resolve_padding
from fastnn.nn import init
from fastnn.nn.module import Module, parameter
from fastnn.tensor import zeros

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of rows, looked up by index; see :func:`fastnn.functional.embedding`.

    Args:
        num_embeddings: Number of rows.
        embedding_dim: Size of a row.
        padding_idx: A row that is zeros at first and gets no gradient.

    Attributes:
        weight: (num_embeddings, embedding_dim), standard normal at first as in torch.

    Raises:
        ValueError: If a size is negative or padding_idx is no row.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Embedding(10, 3)([[1, 2], [3, 4]]).shape
        (2, 2, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        check_whole("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if num_embeddings < 0 or embedding_dim < 0:
            raise ValueError(
                f"Embedding: expected sizes >= 0, got num_embeddings={num_embeddings}, "
                f"embedding_dim={embedding_dim}"
            )
        row = resolve_padding("Embedding", padding_idx, num_embeddings)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else row
        weight = np.array(init.normal_(zeros(num_embeddings, embedding_dim)))
        if padding_idx is not None:
            weight[row] = 0
        self.weight = parameter(weight)

    def forward(self, input: Any) -> Any:
        """weight[input]."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
