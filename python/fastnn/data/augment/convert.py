"""From pixels to what a model takes."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastnn.data.augment.base import MAX_CHANNELS, Augmentation, Frame, operation

__all__ = ["Normalize", "ToDtype"]


@dataclasses.dataclass(eq=False)
class ToDtype(Augmentation):
    """To float32; what follows works on floats.

    Args:
        dtype: ``"float32"``.
        scale: Whether uint8 is divided by 255, so that white is 1.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.ToDtype("float32", scale=True)(np.array([[[255]]], np.uint8))
        array([[[1.]]], dtype=float32)
    """

    dtype: str = "float32"
    scale: bool = False

    def __post_init__(self) -> None:
        if self.dtype != "float32":
            raise ValueError(f"ToDtype: expected dtype 'float32', got {self.dtype!r}")

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        if frame.is_float:
            return []
        frame.is_float = True
        return [_convert([1 / 255 if self.scale else 1.0] * frame.channels, [0.0] * frame.channels)]

    def evaluation(self) -> Augmentation:
        """The same."""
        return self


@dataclasses.dataclass(eq=False)
class Normalize(Augmentation):
    """(x - mean) / std of each channel, for float32 images.

    Args:
        mean: One for each channel, or one for all.
        std: Like it, > 0.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.Normalize(0.5, 0.25)(np.ones((1, 1, 1), np.float32)).item()
        2.0
    """

    mean: Any
    std: Any

    def __post_init__(self) -> None:
        values = self.std if isinstance(self.std, (tuple, list)) else [self.std]
        if not all(v > 0 for v in values):
            raise ValueError(f"Normalize: expected std > 0, got {self.std}")

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        if not frame.is_float:
            raise ValueError(
                "Normalize: expected float32 images, got uint8; put ToDtype('float32', scale=True) "
                "before it"
            )
        mean = frame.per_channel("Normalize", "mean", self.mean)
        std = frame.per_channel("Normalize", "std", self.std)
        return [_convert([1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)])]

    def evaluation(self) -> Augmentation:
        """The same."""
        return self


def _convert(scale: list[float], shift: list[float]) -> bytes:
    """x scale + shift of each channel."""
    more = [0.0] * (MAX_CHANNELS - len(scale))
    return operation("convert", [*scale, *more, *shift, *more])
