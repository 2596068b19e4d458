"""Parts of images taken away."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastnn.data.augment.base import Augmentation, Frame, Range, check_p, operation, ordered

__all__ = ["Cutout", "RandomErasing"]


@dataclasses.dataclass(eq=False)
class RandomErasing(Augmentation):
    """A random box set to a value, with probability p.

    Args:
        p: Probability.
        scale: The box's share of the area, from and to.
        ratio: Its height by its width, from and to; the logarithm is uniform.
        value: One value, one for each channel, or ``"random"``: N(0, 1) for each pixel (uint8: any
            level).

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> images = np.ones((4, 3, 8, 8), np.float32)
        >>> bool((augment.RandomErasing(p=1.0)(images, seed=0) == 0).any())
        True

    Source:
        Zhong, Zheng, Kang, Li, Yang 2017, "Random erasing data augmentation".
    """

    p: float = 0.5
    scale: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    value: Any = 0

    def __post_init__(self) -> None:
        check_p("RandomErasing", self.p)
        self.scale = ordered("RandomErasing", "scale", self.scale, 0, 1)
        self.ratio = ordered("RandomErasing", "ratio", self.ratio, 1e-3, 1e3)
        if isinstance(self.value, str) and self.value != "random":
            raise ValueError(
                f"RandomErasing: expected value of numbers or 'random', got {self.value!r}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        random = self.value == "random"
        fill = frame.per_channel("RandomErasing", "value", 0 if random else self.value)
        numbers = [*self.scale, *self.ratio]
        return [operation("erase", numbers, p=self.p, flags=int(random), fill=fill)]


@dataclasses.dataclass(eq=False)
class Cutout(Augmentation):
    """Squares set to a value; their middle is any pixel, so the border may cut them.

    Args:
        n_holes: How many.
        length: Their side in pixels; 16 for CIFAR-10, 8 for CIFAR-100 in the paper.
        fill: One value, or one for each channel.
        p: Probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> y = augment.Cutout(length=2)(np.ones((1, 8, 8), np.uint8), seed=0)
        >>> int((y == 0).sum()) in (1, 2, 4)
        True

    Source:
        DeVries, Taylor 2017, "Improved regularization of convolutional neural networks with
        cutout".
    """

    n_holes: int = 1
    length: int = 16
    fill: Any = 0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_p("Cutout", self.p)
        if not (1 <= self.n_holes <= 1000 and self.length >= 1):
            raise ValueError(
                f"Cutout: expected 1 <= n_holes <= 1000 and length >= 1, got {self.n_holes} and "
                f"{self.length}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        fill = frame.per_channel("Cutout", "fill", self.fill)
        return [operation("cutout", [self.n_holes, self.length], p=self.p, fill=fill)]
