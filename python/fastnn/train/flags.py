"""The Trainer's flags with Lightning's names: what they may be, and what they mean for an epoch."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Flags", "batches_of"]

_LIMITS = ("overfit_batches", "limit_train_batches", "limit_val_batches")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Checked flags; :class:`fastnn.Trainer` says what they mean."""

    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    accumulate_grad_batches: int = 1
    overfit_batches: float = 0
    limit_train_batches: float = 1.0
    limit_val_batches: float = 1.0

    def __post_init__(self) -> None:
        value, algorithm = self.gradient_clip_val, self.gradient_clip_algorithm
        if value is not None and not value > 0:
            raise ValueError(f"Trainer: expected gradient_clip_val > 0, got {value}")
        if algorithm not in ("norm", "value"):
            raise ValueError(
                f"Trainer: expected gradient_clip_algorithm 'norm' or 'value', got {algorithm!r}"
            )
        every = self.accumulate_grad_batches
        if not _is_whole(every) or every < 1:
            raise ValueError(
                f"Trainer: expected a whole number accumulate_grad_batches >= 1, got {every}"
            )
        for name in _LIMITS:
            limit = getattr(self, name)
            if not (_is_whole(limit) and limit >= 0) and not (
                isinstance(limit, float) and 0 <= limit <= 1
            ):
                raise ValueError(
                    f"Trainer: expected {name} to be a number of batches or a share from 0.0 to "
                    f"1.0, got {limit!r}"
                )
        if not self.limit_train_batches:
            raise ValueError(
                f"Trainer: expected limit_train_batches above 0, got {self.limit_train_batches}"
            )


def batches_of(limit: float, batches: int) -> int:
    """How many of so many batches a limit means: a number of them, or a share, but at least one.

    Example:
        >>> from fastnn.train.flags import batches_of
        >>> batches_of(3, 10), batches_of(0.5, 10), batches_of(1.0, 10), batches_of(99, 10)
        (3, 5, 10, 10)
    """
    if isinstance(limit, float):
        return max(1, int(limit * batches)) if limit else 0
    return min(int(limit), batches)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
