"""Transforms of batches: each image mixed with the one before it, and the labels with it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from fastnn.data.augment.base import Augmentation, Frame, check_p

__all__ = ["CutMix", "Mix", "MixUp"]


@dataclasses.dataclass(eq=False)
class Mix(Augmentation):
    """What :class:`MixUp` and :class:`CutMix` share."""

    kind: ClassVar[str]
    alpha: float = 1.0
    num_classes: int = 0
    p: float = 1.0

    def __post_init__(self) -> None:
        op = type(self).__name__
        check_p(op, self.p)
        if not 0 < self.alpha < 1e6:
            raise ValueError(f"{op}: expected 0 < alpha < 1e6, got {self.alpha}")
        if self.num_classes < 1:
            raise ValueError(f"{op}: expected num_classes >= 1, got {self.num_classes}")

    def program(self, frame: Frame) -> list[bytes]:
        """Nothing: a batch is mixed when its images are made."""
        self.check(frame)
        return []

    def check(self, frame: Frame) -> None:
        """Raise ValueError if such images cannot be mixed."""


class MixUp(Mix):
    """l x_i + (1 - l) x_j and the same of the labels, l ~ Beta(alpha, alpha).

    Partners are neighbours in the batch; l depends on seed, epoch and sample i. Labels become
    shares of classes, for :func:`fastnn.F.cross_entropy`.

    Args:
        alpha: Small: mostly one of the two; 1: any share is as likely as another.
        num_classes: Number of classes.
        p: How likely a sample is mixed.

    Raises:
        ValueError: For an argument out of range, and for images that are not float32 yet.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> images = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
        >>> x, y = augment.MixUp(alpha=1.0, num_classes=2)(images, [0, 1], seed=0)
        >>> bool(np.allclose(x.ravel(), y[:, 1]))
        True

    Source:
        Zhang, Cisse, Dauphin, Lopez-Paz 2018, "mixup: beyond empirical risk minimization".
    """

    kind = "mixup"

    def check(self, frame: Frame) -> None:
        """See :class:`Mix`."""
        if not frame.is_float:
            raise ValueError(
                "MixUp: expected float32 images, got uint8; put ToDtype('float32', scale=True) "
                "before it"
            )


class CutMix(Mix):
    """A box of one image in another, and labels by the share of pixels.

    The box has (1 - l) of the area, l ~ Beta(alpha, alpha), and its middle is anywhere: where the
    border cuts it, l is what is left of the first image, counted in pixels.

    Args:
        alpha: See :class:`MixUp`.
        num_classes: Number of classes.
        p: How likely a sample is mixed.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> images = np.zeros((2, 1, 8, 8), np.uint8)
        >>> images[1] = 1
        >>> x, y = augment.CutMix(num_classes=2)(images, [0, 1], seed=0)
        >>> bool(np.allclose(x.mean((1, 2, 3)), y[:, 1]))
        True

    Source:
        Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with
        localizable features".
    """

    kind = "cutmix"
