"""Which part of an image, in which size: flips, crops and resizing."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastnn.data.augment.base import (
    Augmentation,
    Frame,
    Range,
    check_p,
    operation,
    ordered,
    pair,
)

__all__ = [
    "CenterCrop",
    "Pad",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomScaleCrop",
    "RandomVerticalFlip",
    "Resize",
]

Size = int | tuple[int, int]
_PADDINGS = ("constant", "edge", "reflect", "symmetric")
_FIXED = 1
_WHOLE, _BOX, _SHORT_SIDE = 0, 1, 2


@dataclasses.dataclass(eq=False)
class RandomHorizontalFlip(Augmentation):
    """Left and right exchanged, with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomHorizontalFlip(p=1.0)(np.array([[[[1, 2]]]], np.uint8)).tolist()
        [[[[2, 1]]]]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomHorizontalFlip", self.p)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return [operation("flip", p=self.p)]


@dataclasses.dataclass(eq=False)
class RandomVerticalFlip(Augmentation):
    """Top and bottom exchanged, with probability p.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomVerticalFlip(p=1.0)(np.array([[[[1], [2]]]], np.uint8)).tolist()
        [[[[2], [1]]]]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomVerticalFlip", self.p)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return [operation("flip", p=self.p, flags=1)]


def _sides(op: str, padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) from one, two or four numbers."""
    given = (padding,) if isinstance(padding, int) else tuple(padding or (0,))
    if len(given) not in (1, 2, 4) or not all(isinstance(v, int) and v >= 0 for v in given):
        raise ValueError(
            f"{op}: expected padding of 1, 2 or 4 whole numbers >= 0 (left, top, right, bottom), "
            f"got {padding}"
        )
    left, top, right, bottom = given * (4 // len(given))
    return left, top, right, bottom


def _check_padding_mode(op: str, mode: str) -> None:
    if mode not in _PADDINGS:
        raise ValueError(f"{op}: expected padding_mode of {_PADDINGS}, got {mode!r}")


def _crop(
    frame: Frame,
    op: str,
    size: tuple[int, int],
    sides: tuple[int, int, int, int],
    at: tuple[int, int] | None = None,
    fill: Any = 0,
    mode: str = "constant",
) -> bytes:
    """A crop of the padded image: at random, or at (top, left)."""
    left, top, right, bottom = sides
    height, width = frame.height + top + bottom, frame.width + left + right
    if size[0] > height or size[1] > width:
        raise ValueError(
            f"{op}: expected images of at least {size[0]} x {size[1]} pixels with their padding, "
            f"got {height} x {width}"
        )
    values = [*size, top, left, bottom, right, _PADDINGS.index(mode), *(at or (0, 0))]
    frame.resize(*size)
    flags = 0 if at is None else _FIXED
    return operation("crop", values, flags=flags, fill=frame.per_channel(op, "fill", fill))


@dataclasses.dataclass(eq=False)
class RandomCrop(Augmentation):
    """A part of the image, padded before.

    Args:
        size: Height and width, or one number for both.
        padding: Of all sides, of left/right and top/bottom, or of left, top, right, bottom.
        pad_if_needed: Pad images that are too small to the size.
        fill: The value of constant padding; one, or one for each channel.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``.

    Raises:
        ValueError: For arguments out of range; when called, for images that are too small.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomCrop(32, padding=4)(np.zeros((2, 3, 32, 32), np.uint8)).shape
        (2, 3, 32, 32)

    Source:
        Krizhevsky, Sutskever, Hinton 2012; with padding: Lee et al. 2015, "Deeply-supervised nets".
    """

    size: Size
    padding: Any = None
    pad_if_needed: bool = False
    fill: Any = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        pair("RandomCrop", "size", self.size)
        _sides("RandomCrop", self.padding)
        _check_padding_mode("RandomCrop", self.padding_mode)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        size = pair("RandomCrop", "size", self.size)
        left, top, right, bottom = _sides("RandomCrop", self.padding)
        if self.pad_if_needed:  # on both sides, as torchvision does
            more_rows = max(0, size[0] - frame.height - top - bottom)
            more_cols = max(0, size[1] - frame.width - left - right)
            left, right = left + more_cols, right + more_cols
            top, bottom = top + more_rows, bottom + more_rows
        sides = left, top, right, bottom
        return [_crop(frame, "RandomCrop", size, sides, None, self.fill, self.padding_mode)]

    def evaluation(self) -> Augmentation:
        """The part in the middle."""
        return CenterCrop(self.size)


@dataclasses.dataclass(eq=False)
class CenterCrop(Augmentation):
    """The middle of the image; smaller images are padded with zeros.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.CenterCrop(2)(np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)).tolist()
        [[[[5, 6], [9, 10]]]]
    """

    size: Size

    def __post_init__(self) -> None:
        pair("CenterCrop", "size", self.size)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        height, width = pair("CenterCrop", "size", self.size)
        more_rows, more_cols = max(0, height - frame.height), max(0, width - frame.width)
        sides = more_cols // 2, more_rows // 2, (more_cols + 1) // 2, (more_rows + 1) // 2
        top = round((frame.height + more_rows - height) / 2)
        left = round((frame.width + more_cols - width) / 2)
        return [_crop(frame, "CenterCrop", (height, width), sides, (top, left))]

    def evaluation(self) -> Augmentation:
        """The same."""
        return self


@dataclasses.dataclass(eq=False)
class Pad(Augmentation):
    """More pixels on all sides.

    Args:
        padding: See :class:`RandomCrop`.
        fill: See :class:`RandomCrop`.
        padding_mode: See :class:`RandomCrop`.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.Pad(1, padding_mode="reflect")(np.array([[[[1, 2], [3, 4]]]], np.uint8))[0, 0]
        array([[4, 3, 4, 3],
               [2, 1, 2, 1],
               [4, 3, 4, 3],
               [2, 1, 2, 1]], dtype=uint8)
    """

    padding: Any
    fill: Any = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        _sides("Pad", self.padding)
        _check_padding_mode("Pad", self.padding_mode)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        left, top, right, bottom = sides = _sides("Pad", self.padding)
        size = frame.height + top + bottom, frame.width + left + right
        return [_crop(frame, "Pad", size, sides, (0, 0), self.fill, self.padding_mode)]

    def evaluation(self) -> Augmentation:
        """The same."""
        return self


@dataclasses.dataclass(eq=False)
class Resize(Augmentation):
    """The image in another size, bilinear, with the wider filter that making smaller needs.

    Pixels of the result are weighted means of the pixels they cover: a triangle as wide as the
    coarser of the two grids (Pillow's BILINEAR, torchvision's ``antialias=True``).

    Args:
        size: (height, width), or the length of the shorter side.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.Resize(4)(np.zeros((1, 3, 8, 16), np.uint8)).shape
        (1, 3, 4, 8)
    """

    size: Size

    def __post_init__(self) -> None:
        pair("Resize", "size", self.size)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        if isinstance(self.size, int):
            shorter = min(frame.height, frame.width)
            size = self.size * frame.height // shorter, self.size * frame.width // shorter
        else:
            size = pair("Resize", "size", self.size)
        frame.resize(*size)
        return [operation("resize", size, flags=_WHOLE)]

    def evaluation(self) -> Augmentation:
        """The same."""
        return self


@dataclasses.dataclass(eq=False)
class RandomResizedCrop(Augmentation):
    """A random part of the image in a given size.

    Args:
        size: Height and width of the result.
        scale: The part's share of the area, from and to.
        ratio: Its width by its height, from and to; the logarithm is uniform.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomResizedCrop(24)(np.zeros((2, 3, 32, 48), np.uint8)).shape
        (2, 3, 24, 24)

    Source:
        Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """

    size: Size
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        pair("RandomResizedCrop", "size", self.size)
        self.scale = ordered("RandomResizedCrop", "scale", self.scale, 1e-6, 1)
        self.ratio = ordered("RandomResizedCrop", "ratio", self.ratio, 1e-3, 1e3)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        size = pair("RandomResizedCrop", "size", self.size)
        frame.resize(*size)
        return [operation("resize", [*size, *self.scale, *self.ratio], flags=_BOX)]

    def evaluation(self) -> Augmentation:
        """All of the image in that size."""
        return Resize(pair("RandomResizedCrop", "size", self.size))


@dataclasses.dataclass(eq=False)
class RandomScaleCrop(Augmentation):
    """ResNet's: the shorter side gets a random length, then a random crop.

    Args:
        min_size: Least length of the shorter side.
        max_size: Greatest; all whole numbers between are as likely.
        size: Height and width of the crop.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandomScaleCrop(256, 480, 224)(np.zeros((1, 3, 300, 400), np.uint8)).shape
        (1, 3, 224, 224)

    Source:
        He, Zhang, Ren, Sun 2016, "Deep residual learning", section 3.4; Simonyan, Zisserman 2014.
    """

    min_size: int
    max_size: int
    size: Size

    def __post_init__(self) -> None:
        size = pair("RandomScaleCrop", "size", self.size)
        if not max(size) <= self.min_size <= self.max_size:
            raise ValueError(
                f"RandomScaleCrop: expected {max(size)} <= min_size <= max_size, got "
                f"{self.min_size} and {self.max_size}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        size = pair("RandomScaleCrop", "size", self.size)
        frame.resize(*size)
        return [operation("resize", [*size, self.min_size, self.max_size], flags=_SHORT_SIDE)]

    def evaluation(self) -> Augmentation:
        """The middle of the image of a length between."""
        from fastnn.data.augment.compose import Compose

        return Compose([Resize((self.min_size + self.max_size) // 2), CenterCrop(self.size)])
