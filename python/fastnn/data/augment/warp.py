"""Images read at other places: affine maps and lenses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from fastnn.data.augment.base import (
    Augmentation,
    Frame,
    Range,
    check_p,
    operation,
    ordered,
    symmetric,
)

__all__ = ["RandomAffine", "RandomLensDistortion", "RandomRotation"]

_NEAREST = 1


def interpolation_flag(op: str, name: str) -> int:
    """The flag of how pixels are read; ValueError for an unknown way."""
    if name not in ("bilinear", "nearest"):
        raise ValueError(f"{op}: expected interpolation 'bilinear' or 'nearest', got {name!r}")
    return _NEAREST if name == "nearest" else 0


@dataclasses.dataclass(eq=False)
class RandomAffine(Augmentation):
    """Scaled, stretched, sheared, turned and moved: all as one map, bilinear.

    What lies outside the image is ``fill``; at its border the pixel there stands for missing
    neighbours, as in Pillow.

    Args:
        degrees: Of the turn, clockwise: from and to, or a number for -degrees to degrees.
        translate: Greatest moves as shares of width and height.
        scale: Factors, from and to.
        shear: Degrees along x: a number, from and to, or those and from and to along y.
        interpolation: ``"bilinear"``, or ``"nearest"``.
        fill: One value, or one for each channel.
        center: (x, y) that the map is about; default: the middle.
        stretch: More factors for the width alone.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> turn = augment.RandomAffine((90, 90))
        >>> turn(np.array([[[[1, 2], [3, 4]]]], np.uint8)).tolist()
        [[[[3, 1], [4, 2]]]]
    """

    degrees: float | Range
    translate: Range | None = None
    scale: Range | None = None
    shear: Any = None
    interpolation: str = "bilinear"
    fill: Any = 0
    center: tuple[float, float] | None = None
    stretch: Range | None = None

    def __post_init__(self) -> None:
        self._values()
        interpolation_flag("RandomAffine", self.interpolation)

    def _values(self) -> list[float]:
        op = "RandomAffine"
        moves = self.translate or (0.0, 0.0)
        if len(moves) != 2 or not all(0 <= m <= 1 for m in moves):
            raise ValueError(f"{op}: expected translate of two shares 0 to 1, got {self.translate}")
        shear = (0.0, 0.0) if self.shear is None else self.shear
        along_x: Any = shear[:2] if isinstance(shear, (tuple, list)) else shear
        four = symmetric(op, "shear", along_x)
        along_y = (0.0, 0.0)
        if isinstance(shear, (tuple, list)) and len(shear) == 4:
            along_y = ordered(op, "shear", shear[2:])
        if max(map(abs, (*four, *along_y))) >= 90:
            raise ValueError(f"{op}: expected shear of less than 90 degrees, got {self.shear}")
        scale = ordered(op, "scale", self.scale or (1.0, 1.0), 1e-3, 1e3)
        stretch = ordered(op, "stretch", self.stretch or (1.0, 1.0), 1e-3, 1e3)
        center = self.center or (math.nan, math.nan)
        degrees = symmetric(op, "degrees", self.degrees)
        return [*degrees, *moves, *scale, *four, *along_y, *stretch, *center]

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        flags = interpolation_flag("RandomAffine", self.interpolation)
        fill = frame.per_channel("RandomAffine", "fill", self.fill)
        return [operation("affine", self._values(), flags=flags, fill=fill)]


@dataclasses.dataclass(eq=False)
class RandomRotation(Augmentation):
    """Turned counter-clockwise about the middle, or ``center``.

    Args:
        degrees: From and to, or a number for -degrees to degrees.
        interpolation: See :class:`RandomAffine`.
        fill: See :class:`RandomAffine`.
        center: See :class:`RandomAffine`.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> turn = augment.RandomRotation((90, 90))
        >>> turn(np.array([[[[1, 2], [3, 4]]]], np.uint8)).tolist()
        [[[[2, 4], [1, 3]]]]
    """

    degrees: float | Range
    interpolation: str = "bilinear"
    fill: Any = 0
    center: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self._affine()

    def _affine(self) -> RandomAffine:
        low, high = symmetric("RandomRotation", "degrees", self.degrees)
        return RandomAffine(
            (-high, -low), interpolation=self.interpolation, fill=self.fill, center=self.center
        )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return self._affine().program(frame)


@dataclasses.dataclass(eq=False)
class RandomLensDistortion(Augmentation):
    """Radial distortion: a pixel at distance d from the middle is read at d (1 + k d^2).

    d is 1 in the corners. k > 0 is a barrel, k < 0 a pincushion.

    Args:
        distortion: k, from and to, or a number for -distortion to distortion.
        interpolation: See :class:`RandomAffine`.
        fill: See :class:`RandomAffine`.
        p: Probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomLensDistortion(0.2)(np.zeros((1, 3, 8, 8), np.uint8)).shape
        (1, 3, 8, 8)

    Source:
        Brown 1966, "Decentering distortion of lenses": the first radial term.
    """

    distortion: float | Range = 0.2
    interpolation: str = "bilinear"
    fill: Any = 0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_p("RandomLensDistortion", self.p)
        low, _ = symmetric("RandomLensDistortion", "distortion", self.distortion)
        if low <= -1:
            raise ValueError(
                f"RandomLensDistortion: expected distortion > -1, got {self.distortion}"
            )
        interpolation_flag("RandomLensDistortion", self.interpolation)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        op = "RandomLensDistortion"
        low, high = symmetric(op, "distortion", self.distortion)
        flags = interpolation_flag(op, self.interpolation)
        fill = frame.per_channel(op, "fill", self.fill)
        return [operation("lens", [0, low, high], p=self.p, flags=flags, fill=fill)]
