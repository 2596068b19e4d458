"""Transforms made of transforms, and a function of the user's as a transform."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.data.augment.base import Array, Augmentation, Frame, check_p, operation

__all__ = ["Compose", "Lambda", "RandomApply", "RandomChoice", "RandomOrder", "flatten"]

_MOST_IN_ORDER = 16  # csrc/kernels/augment_draw.h


@dataclasses.dataclass(eq=False)
class Compose(Augmentation):
    """Transforms one after the other: one pass over each image.

    Crops, flips and the conversion to float only change how pixels are read, so that a crop, a flip
    and a normalisation cost one copy. A function takes part as :class:`Lambda`. What mixes images
    (:class:`MixUp`, :class:`CutMix`) comes last.

    Args:
        transforms: Transforms or functions.

    Raises:
        TypeError: If one is neither.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> pipeline = augment.Compose([
        ...     augment.RandomCrop(32, padding=4),
        ...     augment.RandomHorizontalFlip(),
        ...     augment.ToDtype("float32", scale=True),
        ...     augment.Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25]),
        ... ])
        >>> images = np.zeros((8, 3, 32, 32), np.uint8)
        >>> y = pipeline(images, seed=0)
        >>> y.dtype, y.shape, float(y[0, 0, 0, 0])
        (dtype('float32'), (8, 3, 32, 32), -2.0)
    """

    transforms: Sequence[Augmentation | Callable[..., Any]]

    def __post_init__(self) -> None:
        self.transforms = [_as_transform("Compose", t) for t in self.transforms]

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return [op for t in flatten(self) for op in t.program(frame)]

    def evaluation(self) -> Compose:
        """The transforms without chance: conversions, resizing, and crops from the middle.

        Example:
            >>> from fastnn.data import augment
            >>> augment.Compose([augment.RandomCrop(24), augment.RandomInvert()]).evaluation()
            Compose(transforms=[CenterCrop(size=24)])
        """
        kept = [t.evaluation() for t in flatten(self)]
        return Compose([t for t in kept if t is not None])


@dataclasses.dataclass(eq=False)
class RandomApply(Augmentation):
    """Some transforms, all or none of them.

    Args:
        transforms: What to do with probability p; images keep their size and dtype.
        p: The probability.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> maybe = augment.RandomApply([augment.RandomInvert(p=1.0)], p=0.5)
        >>> images = np.zeros((1000, 1, 1, 1), np.uint8)
        >>> 400 < (maybe(images, seed=0) == 255).sum() < 600
        np.True_
    """

    transforms: Sequence[Augmentation]
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("RandomApply", self.p)
        self.transforms = [_as_native("RandomApply", t) for t in self.transforms]

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        program = _inner("RandomApply", self.transforms, frame)
        return [operation("maybe", p=self.p, span=len(program)), *program]


@dataclasses.dataclass(eq=False)
class RandomChoice(Augmentation):
    """One of some transforms, each as likely as another.

    Args:
        transforms: What to choose from; images keep their size and dtype.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> choice = augment.RandomChoice([augment.RandomInvert(p=1.0), augment.RandomEqualize()])
        >>> choice(np.zeros((2, 1, 4, 4), np.uint8), seed=0).shape
        (2, 1, 4, 4)
    """

    transforms: Sequence[Augmentation]

    def __post_init__(self) -> None:
        self.transforms = [_as_native("RandomChoice", t) for t in self.transforms]
        if not self.transforms:
            raise ValueError("RandomChoice: expected at least one transform, got none")

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        return choose([_inner("RandomChoice", [t], frame) for t in self.transforms])


@dataclasses.dataclass(eq=False)
class RandomOrder(Augmentation):
    """All of some transforms, in an order of its own for each image, each order as likely.

    Args:
        transforms: What to do, at most 16; images keep their size and dtype.

    Raises:
        ValueError: For none or more than 16.
        TypeError: For what is no transform of single images.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> invert, solarize = augment.RandomInvert(1.0), augment.RandomSolarize(100, 1.0)
        >>> both = augment.RandomOrder([invert, solarize])
        >>> images = np.full((1000, 1, 1, 1), 90, np.uint8)
        >>> np.unique(both(images, seed=0)).tolist()  # 90, 165, 90 or 90, 90, 165
        [90, 165]
    """

    transforms: Sequence[Augmentation]

    def __post_init__(self) -> None:
        self.transforms = [_as_native("RandomOrder", t) for t in self.transforms]
        if not 1 <= len(self.transforms) <= _MOST_IN_ORDER:
            raise ValueError(
                f"RandomOrder: expected 1 to {_MOST_IN_ORDER} transforms, got "
                f"{len(self.transforms)}"
            )

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        parts = [_inner("RandomOrder", [t], frame) for t in self.transforms]
        span = max(len(part) for part in parts) + 1
        program = [operation("order", flags=len(parts), span=span)]
        for i, part in enumerate(parts):
            follow = operation("next", flags=i, span=len(program) + len(part))
            rest = span - len(part) - 1
            program += [*part, follow, *[operation("identity")] * rest]
        return program


@dataclasses.dataclass(eq=False)
class Lambda(Augmentation):
    """A function of the user's. It makes batches on another thread, while the step runs.

    Args:
        function: Takes an image, uint8 or float32 of shape (channels, height, width), and returns
            one like it. If it takes a second argument, that is a ``np.random.Generator`` whose
            numbers depend on seed, epoch and sample, as those of other transforms do.

    Raises:
        TypeError: If it is no function; when called, if it returns something else than an image.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> def shift(image, rng):
        ...     return np.roll(image, rng.integers(4), axis=-1)
        >>> augment.Lambda(shift)(np.eye(4, dtype=np.uint8)[None, None], seed=0).shape
        (1, 1, 4, 4)
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"Lambda: expected a function, got {type(self.function).__name__}")
        try:
            count = len(inspect.signature(self.function).parameters)
        except ValueError:  # of a built-in function without a signature
            count = 1
        self._takes_generator = count > 1

    def apply(self, images: Array, index: Array, seed: int, epoch: int, slot: int) -> Array:
        """The function of each image; ``index`` says which samples they are."""
        result = np.empty_like(images)
        for i, (image, sample) in enumerate(zip(images, index.tolist(), strict=True)):
            given = image.copy()
            if self._takes_generator:
                bits = np.random.Philox(key=[seed, epoch], counter=[0, sample, slot, 0])
                made = np.asarray(self.function(given, np.random.Generator(bits)))
            else:
                made = np.asarray(self.function(given))
            if made.shape != image.shape or made.dtype != image.dtype:
                name = getattr(self.function, "__name__", "the function")
                raise TypeError(
                    f"Lambda: expected {name} to return {image.dtype} of shape {image.shape} as it "
                    f"was given, got {made.dtype} of shape {made.shape}"
                )
            result[i] = made
        return result


def flatten(transform: Augmentation) -> list[Any]:
    """The transforms of nested Composes, in order."""
    if isinstance(transform, Compose):
        return [step for t in transform.transforms for step in flatten(t)]  # type: ignore[arg-type]
    return [transform]


def choose(alternatives: list[list[bytes]]) -> list[bytes]:
    """A program that runs one of these: each ends in an identity that skips those after it."""
    span, count = max(len(a) for a in alternatives) + 1, len(alternatives)
    program = [operation("choose", flags=count, span=span)]
    for i, alternative in enumerate(alternatives):
        rest = span - len(alternative)
        skip = operation("identity", span=rest - 1 + (count - 1 - i) * span)
        program += [*alternative, skip, *[operation("identity")] * (rest - 1)]
    return program


def _inner(op: str, transforms: Sequence[Augmentation], frame: Frame) -> list[bytes]:
    before = dataclasses.replace(frame)
    program = [o for t in transforms for o in t.program(frame)]
    same = (frame.height, frame.width, frame.is_float)
    if same != (before.height, before.width, before.is_float):
        raise ValueError(
            f"{op}: expected transforms that keep the size and dtype of images, got {transforms}"
        )
    return program


def _as_transform(op: str, transform: Any) -> Augmentation:
    if isinstance(transform, Augmentation):
        return transform
    if not callable(transform):
        raise TypeError(f"{op}: expected transforms or functions, got {type(transform).__name__}")
    return Lambda(transform)


def _as_native(op: str, transform: Any) -> Augmentation:
    from fastnn.data.augment.mix import Mix

    if not isinstance(transform, Augmentation) or isinstance(transform, (Lambda, Mix)):
        raise TypeError(
            f"{op}: expected transforms of single images, got {type(transform).__name__}"
        )
    return transform
