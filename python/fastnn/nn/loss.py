"""Loss layers."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(Module):
    """Softmax cross-entropy; see :func:`fastnn.functional.cross_entropy`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.CrossEntropyLoss()([[0.0, 0.0]], [0]).item()
        0.6931471824645996
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Any, target: Any, *, check_finite: bool = False) -> Any:
        """The loss of logits against class indices or probabilities."""
        return F.cross_entropy(input, target, self.reduction, check_finite=check_finite)
