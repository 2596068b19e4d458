"""What values pixels have: colours and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fastnn.data.augment.base import (
    Augmentation,
    Frame,
    Range,
    check_p,
    operation,
    ordered,
)

__all__ = [
    "ColorJitter",
    "GaussianNoise",
    "PCALighting",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomEqualize",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
]


def _factors(op: str, name: str, value: float | Range | None, middle: float) -> Range | None:
    if value is None:
        return None
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"{op}: expected {name} >= 0 or (from, to), got {value}")
        value = (max(0.0, middle - value), middle + value) if middle else (-value, value)
    low, high = ordered(op, name, value, *((0.0, float("inf")) if middle else (-0.5, 0.5)))
    return None if low == high == middle else (low, high)  # None: nothing changes, nothing is done


@dataclasses.dataclass(eq=False)
class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue, in random order.

    The first three blend the image with black, its mean grey, and its own greys, by a factor.

    Args:
        brightness: Factors from and to, or a number b for max(0, 1 - b) to 1 + b.
        contrast: Like it.
        saturation: Like it.
        hue: Turns of the circle of hues, from and to, or a number; at most half a turn.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.ColorJitter(brightness=(0.5, 0.5))(np.full((1, 3, 1, 1), 100, np.uint8)).max()
        np.uint8(50)

    Source:
        Howard 2013, "Some improvements on deep convolutional neural network based image
        classification".
    """

    brightness: float | Range | None = None
    contrast: float | Range | None = None
    saturation: float | Range | None = None
    hue: float | Range | None = None

    def __post_init__(self) -> None:
        self._ranges()

    def _ranges(self) -> list[Range | None]:
        op = "ColorJitter"
        return [
            _factors(op, "brightness", self.brightness, 1.0),
            _factors(op, "contrast", self.contrast, 1.0),
            _factors(op, "saturation", self.saturation, 1.0),
            _factors(op, "hue", self.hue, 0.0),
        ]

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        frame.need_colours("ColorJitter")
        ranges = self._ranges()
        flags = sum(1 << i for i, r in enumerate(ranges) if r is not None)
        return [operation("jitter", [v for r in ranges for v in r or (0.0, 0.0)], flags=flags)]


@dataclasses.dataclass(eq=False)
class _Simple(Augmentation):
    """With probability p."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p(type(self).__name__, self.p)

    def _emit(self, frame: Frame, name: str) -> list[bytes]:
        frame.need_colours(type(self).__name__)
        return [operation(name, p=self.p)]


@dataclasses.dataclass(eq=False)
class RandomGrayscale(_Simple):
    """Greys of the same luminance (0.299 R + 0.587 G + 0.114 B), with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> image = np.array([255, 0, 0], np.uint8).reshape(3, 1, 1)
        >>> augment.RandomGrayscale(p=1.0)(image).ravel()
        array([76, 76, 76], dtype=uint8)
    """

    p: float = 0.1

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return self._emit(frame, "grayscale")


class RandomInvert(_Simple):
    """White less the pixel, with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomInvert(p=1.0)(np.array([[[5]]], np.uint8)).item()
        250
    """

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return self._emit(frame, "invert")


class RandomEqualize(_Simple):
    """Each channel's histogram made even, as in Pillow, with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> image = (np.arange(1024) // 8).astype(np.uint8).reshape(1, 32, 32)
        >>> int(augment.RandomEqualize(p=1.0)(image).max())
        255
    """

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return self._emit(frame, "equalize")


class RandomAutocontrast(_Simple):
    """Each channel stretched to all of black to white, with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> image = np.array([[[100, 150, 200]]], np.uint8)
        >>> augment.RandomAutocontrast(p=1.0)(image).tolist()
        [[[0, 127, 255]]]
    """

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return self._emit(frame, "autocontrast")


@dataclasses.dataclass(eq=False)
class RandomPosterize(Augmentation):
    """The upper bits of each pixel, with probability p.

    Args:
        bits: How many, 1 to 8.
        p: Probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomPosterize(2, p=1.0)(np.array([[[200]]], np.uint8)).item()
        192
    """

    bits: int
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomPosterize", self.p)
        if not 1 <= self.bits <= 8:
            raise ValueError(f"RandomPosterize: expected 1 <= bits <= 8, got {self.bits}")

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return [operation("posterize", [0, self.bits, self.bits], p=self.p)]


@dataclasses.dataclass(eq=False)
class RandomSolarize(Augmentation):
    """Pixels at or above a threshold inverted, with probability p.

    Args:
        threshold: In the units of the images.
        p: Probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomSolarize(128, p=1.0)(np.array([[[100, 200]]], np.uint8)).tolist()
        [[[100, 55]]]
    """

    threshold: float
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomSolarize", self.p)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        raw = 4
        return [operation("solarize", [0, self.threshold, self.threshold], p=self.p, flags=raw)]


@dataclasses.dataclass(eq=False)
class RandomAdjustSharpness(Augmentation):
    """Blended with its mean over 3 x 3 pixels, with probability p.

    Args:
        sharpness_factor: 0 smooth, 1 as it is, 2 sharper.
        p: Probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> image = np.zeros((1, 3, 3), np.uint8)
        >>> image[0, 1, 1] = 130
        >>> int(augment.RandomAdjustSharpness(0.0, p=1.0)(image)[0, 1, 1])
        50
    """

    sharpness_factor: float
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomAdjustSharpness", self.p)
        if not self.sharpness_factor >= 0:
            raise ValueError(
                "RandomAdjustSharpness: expected sharpness_factor >= 0, got "
                f"{self.sharpness_factor}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        factor = self.sharpness_factor
        return [operation("sharpness", [0, factor, factor], p=self.p)]


@dataclasses.dataclass(eq=False)
class GaussianNoise(Augmentation):
    """Adds N(mean, sigma) to every value; white is 1.

    Args:
        mean: Of what is added.
        sigma: Its standard deviation, or from and to.
        clip: Whether the result stays between black and white.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> image = np.zeros((1, 100, 100), np.float32)
        >>> round(float(augment.GaussianNoise(sigma=0.2, clip=False)(image, seed=0).std()), 2)
        0.2
    """

    mean: float = 0.0
    sigma: float | Range = 0.1
    clip: bool = True

    def __post_init__(self) -> None:
        self._range()

    def _range(self) -> Range:
        sigma = self.sigma
        both = (sigma, sigma) if isinstance(sigma, (int, float)) else sigma
        return ordered("GaussianNoise", "sigma", both, 0.0)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return [operation("noise", [self.mean, *self._range()], flags=int(self.clip))]


@dataclasses.dataclass(eq=False)
class PCALighting(Augmentation):
    """Adds sum_k a_k l_k p_k to every pixel, a_k ~ N(0, sd).

    p_k are the principal components of the colours of all training pixels, l_k their variances. The
    default ones are ImageNet's, for white = 1.

    Args:
        sd: Standard deviation of a_k, drawn once for each image.
        eigval: Three variances.
        eigvec: 3 x 3, a component in each column.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.PCALighting()(np.full((1, 3, 4, 4), 0.5, np.float32)).shape
        (1, 3, 4, 4)

    Source:
        Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural
        networks", section 4.1.
    """

    sd: float = 0.1
    eigval: Sequence[float] = (0.2175, 0.0188, 0.0045)
    eigvec: Sequence[Sequence[float]] = (
        (-0.5675, 0.7192, 0.4009),
        (-0.5808, -0.0045, -0.8140),
        (-0.5836, -0.6948, 0.4203),
    )

    def __post_init__(self) -> None:
        if not self.sd >= 0:
            raise ValueError(f"PCALighting: expected sd >= 0, got {self.sd}")
        if len(self.eigval) != 3 or [len(row) for row in self.eigvec] != [3, 3, 3]:
            raise ValueError(
                f"PCALighting: expected 3 numbers in eigval and 3 x 3 in eigvec, got {self.eigval} "
                f"and {self.eigvec}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        if frame.channels != 3:
            raise ValueError(f"PCALighting: expected images of 3 channels, got {frame.channels}")
        components = [float(v) for row in self.eigvec for v in row]
        return [operation("lighting", [self.sd, *map(float, self.eigval), *components])]
