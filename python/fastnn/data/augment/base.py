"""What all augmentations share: a transform is a dataclass of its options that writes a program.

The program is a list of operations with numbers (csrc/kernels/families/augment.h), made once for a
shape and dtype of images; a kernel runs it for each sample. What it draws depends on (seed, epoch,
sample, place in the program) alone: the same images for any batch, number of threads, or restart.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _core
from fastnn._checks import CheckedFields

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastnn.tensor import Tensor

__all__ = ["Augmentation", "Frame", "operation"]

Array = np.ndarray[Any, Any]
Range = tuple[float, float]
MAX_CHANNELS = 12
MAX_OPERATIONS = 250
_FILL = 16  # where an operation has a value for each channel
_LAYOUT = struct.Struct("<iiif28f")


@dataclasses.dataclass
class Frame:
    """The images at one place of a program, and the largest sides on the way there."""

    channels: int
    height: int
    width: int
    is_float: bool
    max_height: int = 0
    max_width: int = 0

    def resize(self, height: int, width: int) -> None:
        """From here on images have this size."""
        self.height, self.width = height, width
        self.grow()

    def grow(self) -> None:
        """Count the present size."""
        self.max_height = max(self.max_height, self.height)
        self.max_width = max(self.max_width, self.width)

    def need_colours(self, op: str) -> None:
        """Raise ValueError unless the images are grey or RGB."""
        if self.channels not in (1, 3):
            raise ValueError(f"{op}: expected images of 1 or 3 channels, got {self.channels}")

    def per_channel(self, op: str, name: str, values: Any) -> list[float]:
        """One number for each channel; a single number stands for all."""
        numbers = [float(v) for v in values] if isinstance(values, (tuple, list)) else [values]
        if len(numbers) == 1:
            numbers *= self.channels
        if len(numbers) != self.channels:
            raise ValueError(
                f"{op}: expected {name} for {self.channels} channels, got {len(numbers)} numbers"
            )
        return [float(v) for v in numbers]


def operation(
    name: str,
    values: Sequence[float] = (),
    *,
    p: float = 1.0,
    flags: int = 0,
    span: int = 0,
    fill: Sequence[float] = (),
) -> bytes:
    """One operation, as the kernel reads it.

    Example:
        >>> from fastnn.data.augment.base import operation
        >>> len(operation("flip", p=0.5))
        128
    """
    v = [*values, *[0.0] * (28 - len(values))]
    if fill:
        v[_FILL : _FILL + len(fill)] = fill
    return _LAYOUT.pack(_core.AUGMENTS[name], span, flags, p, *v)


class Augmentation(CheckedFields):
    """Base of all transforms of images.

    Subclasses are dataclasses whose fields are their options, with torchvision's names. A transform
    is called with images, or used in :class:`Compose`, which runs all of its transforms in one pass
    over each image.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> images = np.arange(8, dtype=np.uint8).reshape(1, 1, 2, 4)
        >>> augment.RandomHorizontalFlip(p=1.0)(images).tolist()
        [[[[3, 2, 1, 0], [7, 6, 5, 4]]]]
    """

    def program(self, frame: Frame) -> list[bytes]:
        """The operations for such images; ``frame`` becomes that of the result.

        Raises:
            ValueError: If the images do not fit.
        """
        raise NotImplementedError

    def evaluation(self) -> Augmentation | None:
        """What is done to images that are not augmented: the same without chance; None: nothing."""
        return None

    def __call__(
        self,
        images: ArrayLike | Tensor,
        labels: ArrayLike | Tensor | None = None,
        *,
        seed: int | None = None,
        epoch: int = 0,
        index: ArrayLike | None = None,
        channels_last: bool = False,
    ) -> Any:
        """Transform images.

        Args:
            images: uint8, or float32 from 0 to 1, shape (n, channels, height, width), or one image.
            labels: Classes, shape (n,): only for what mixes images.
            seed: What is drawn depends on it, the epoch and each sample's index; default: the
                generator that ``fn.manual_seed`` seeds, which goes on with each call.
            epoch: See above.
            index: Which samples the images are, shape (n,); default: 0, 1, ...
            channels_last: Whether the shape is (n, height, width, channels).

        Returns:
            The images, of a dtype that depends on the transforms; with labels (images, labels).

        Raises:
            ValueError: For images of another shape, or that the transform does not fit.
            TypeError: For images of another dtype.
        """
        from fastnn.data.augment.run import call

        return call(self, images, labels, seed, epoch, index, channels_last)


def check_p(op: str, p: float) -> None:
    """Raise ValueError unless p is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: expected 0 <= p <= 1, got {p}")


def pair(op: str, name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, from one number for both or from two."""
    two = (value, value) if isinstance(value, int) else tuple(value)
    if len(two) != 2 or not all(isinstance(v, int) and v >= 1 for v in two):
        raise ValueError(f"{op}: expected {name} of whole numbers >= 1, got {value}")
    return two


def ordered(op: str, name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> Range:
    """A range (from, to) within bounds."""
    values = tuple(float(v) for v in value)
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ValueError(
            f"{op}: expected {name} (from, to) with {low} <= from <= to <= {high}, got {value}"
        )
    return values


def symmetric(op: str, name: str, value: float | Range) -> Range:
    """A range, or a number for the range around 0."""
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"{op}: expected {name} >= 0 or (from, to), got {value}")
        return (-float(value), float(value))
    return ordered(op, name, value)
