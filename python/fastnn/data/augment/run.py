"""Runs programs: of one kernel launch where all transforms are ours, else in turn with functions of
the user's, which see one image at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _core, random
from fastnn.data.augment.base import MAX_CHANNELS, MAX_OPERATIONS, Array, Augmentation, Frame
from fastnn.data.augment.base import operation as _operation
from fastnn.data.augment.compose import Lambda, flatten
from fastnn.data.augment.mix import Mix

__all__ = ["Runner", "as_images", "call"]

_STREAM = 3  # the stream of augmentation


class _Stage:
    """Transforms that make one program."""

    def __init__(
        self, transforms: list[Augmentation], frame: Frame, slot: int, devices: set[str]
    ) -> None:
        was_float = frame.is_float
        program = [op for t in transforms for op in t.program(frame)]
        program = _merge_conversions(program)
        # What is drawn depends on the place in the program: those of stages before are taken.
        self.slots = slot + len(program)
        if self.slots > MAX_OPERATIONS:
            raise ValueError(
                f"augment: expected at most {MAX_OPERATIONS} operations, got {self.slots}"
            )
        joined = b"".join([_operation("identity")] * slot + program)
        cpu = _core.clone(np.frombuffer(joined, np.uint8))
        self._programs = {device: _core.to_device(cpu, device) for device in devices}
        self._size = [frame.height, frame.width, frame.max_height, frame.max_width]
        self._is_float = frame.is_float
        # Whether pixels are ever moved as floats: something follows a conversion.
        convert = _core.AUGMENTS["convert"]
        self._floats = was_float or any(_code(op) == convert for op in program[:-1])

    def ready(self, draw: Any, channels_last: bool) -> Any:
        """What the kernel takes, where what is drawn lies."""
        return _core.AugmentStage(
            draw, self._programs[draw.device], self._size, self._is_float, self._floats,
            channels_last,
        )  # fmt: skip


def _merge_conversions(program: list[bytes]) -> list[bytes]:
    """Conversions in a row become one: x s + t, then that times s' plus t'."""
    convert = _core.AUGMENTS["convert"]
    merged: list[bytes] = []
    for op in program:
        if merged and _code(op) == _code(merged[-1]) == convert:
            (s, t), (s2, t2) = _numbers(merged.pop()), _numbers(op)
            op = _operation("convert", [*(s * s2), *(t * s2 + t2)])
        merged.append(op)
    return merged


def _code(op: bytes) -> int:
    return int(np.frombuffer(op, np.int32, 1)[0])


def _numbers(op: bytes) -> tuple[Array, Array]:
    v = np.frombuffer(op, np.float32, offset=16).astype(np.float64)
    return v[:MAX_CHANNELS], v[MAX_CHANNELS : 2 * MAX_CHANNELS]


class Runner:
    """A transform made ready for images of one shape and dtype.

    Args:
        transform: What to do.
        shape: Of one image.
        is_float: Whether images are float32; else they are uint8.
        channels_last: Whether the shape is (height, width, channels).
        device: Where images may lie besides the CPU.

    Attributes:
        given: The shape, and whether images are float32.
        is_native: Whether :meth:`launch` can do it, inside a recorded step too.
        shape: Of one image of the result.

    Example:
        >>> from fastnn.data import augment
        >>> from fastnn.data.augment.run import Runner
        >>> Runner(augment.RandomCrop(24), (3, 32, 32), False).shape
        (3, 24, 24)
    """

    def __init__(
        self,
        transform: Augmentation,
        shape: tuple[int, ...],
        is_float: bool,
        channels_last: bool = False,
        device: str = "cpu",
    ) -> None:
        self.device = _core.device_name(device)  # as x.device tells it
        devices = {"cpu", self.device}
        self.given, self.channels_last = (shape, is_float), channels_last
        channels, height, width = (shape[2], *shape[:2]) if channels_last else shape
        frame = Frame(channels, height, width, is_float)
        frame.grow()
        steps = flatten(transform)
        mixes = [s for s in steps if isinstance(s, Mix)]
        if mixes and (len(mixes) > 1 or steps[-1] is not mixes[0]):
            raise ValueError(
                f"Compose: expected one transform that mixes images, at the end, got {steps}"
            )
        self.mixes = mixes[0] if mixes else None
        self._parts: list[_Stage | Lambda] = []
        slot, pending = 0, []
        for step in [*(s for s in steps if not isinstance(s, Mix)), None]:
            if step is not None and not isinstance(step, Lambda):
                pending.append(step)
                continue
            if pending:
                stage = _Stage(pending, frame, slot, devices)
                slot, pending = stage.slots, []
                self._parts.append(stage)
            if step is not None:
                self._parts.append(step)
        if not self._parts:
            self._parts.append(_Stage([], frame, 0, devices))
        if self.mixes is not None:
            self.mixes.check(frame)
        self.is_native = not any(isinstance(p, Lambda) for p in self._parts)
        self.is_float = frame.is_float
        size = frame.height, frame.width
        self.shape = (*size, channels) if channels_last else (channels, *size)
        draw = _core.make_generator(0, _STREAM, 0)
        self._draws = {device: _core.move_generator(draw, device) for device in devices}
        self._seed, self._epoch = 0, 0

    def start(self, seed: int, epoch: int) -> None:
        """From here on draw for this epoch; recorded steps do so too."""
        for draw in self._draws.values():
            _core.set_generator(draw, seed, _STREAM, epoch)
        self._seed, self._epoch = seed, epoch

    def native(self, seed: int, epoch: int) -> tuple[Any, Any]:
        """What the kernels of one epoch take on the CPU: the program, and what mixes or None."""
        (stage,) = self._parts
        assert isinstance(stage, _Stage)
        draw = _core.make_generator(seed, _STREAM, epoch)
        return stage.ready(draw, self.channels_last), self._mixing(draw)

    def launch(self, x: Any, index: Any, cursor: Any, rows: int) -> Any:
        """The samples index[cursor], ... of x, transformed: a Tensor. Only what is native."""
        (stage,) = self._parts
        assert isinstance(stage, _Stage)
        return self._stage(stage, x, index, cursor, rows, in_place=False)

    def mix(self, x: Any, labels: Any, index: Any, cursor: Any) -> tuple[Any, Any]:
        """The batch mixed, and its labels as shares; as they are if nothing mixes."""
        mixing = self._mixing(self._draws[x.device])
        if mixing is None:
            return x, labels
        result: tuple[Any, Any] = _core.mix(mixing, x, labels, index, cursor)
        return result

    def _mixing(self, draw: Any) -> Any:
        m = self.mixes
        if m is None:
            return None
        return _core.MixStage(draw, m.kind, m.num_classes, m.alpha, m.p, self.channels_last)

    def batch(self, images: Array, index: Array) -> Array:
        """Images, which are the samples ``index``, transformed: also by functions of the user's."""
        ids, cursor = _core.share(index), _core.share(np.zeros(1, np.int64))
        for part in self._parts:
            if isinstance(part, Lambda):
                slot = self._parts.index(part)
                images = part.apply(images, index, self._seed, self._epoch, slot)
            else:
                x = self._stage(part, _core.share(images), ids, cursor, len(images), in_place=True)
                images = np.asarray(x)
        return images

    def whole(self, images: Array, labels: Any, index: Array) -> tuple[Array, Any]:
        """A batch as a step takes it: images and labels, mixed too.

        Raises:
            ValueError: If it mixes images and there are no labels.
        """
        x, ids = self.batch(images, index), np.ascontiguousarray(index, np.int64)
        if self.mixes is None:
            return x, labels
        if labels is None:
            raise ValueError(f"{type(self.mixes).__name__}: expected labels to mix, got none")
        cursor = _core.share(np.zeros(1, np.int64))
        mixed, shares = self.mix(_core.share(x), _core.share(labels), _core.share(ids), cursor)
        return np.asarray(mixed), np.asarray(shares)

    def _stage(
        self, stage: _Stage, x: Any, index: Any, cursor: Any, rows: int, in_place: bool
    ) -> Any:
        ready = stage.ready(self._draws[x.device], self.channels_last)
        return _core.augment(ready, x, index, cursor, rows, in_place)


def as_images(op: str, images: Any, channels_last: bool) -> Any:
    """Images as a Tensor of uint8 or float32 that shares their memory.

    Raises:
        ValueError: For other than four axes, and more channels than transforms have numbers for.
        TypeError: For another dtype.
    """
    shared = _core.share(images)
    if shared.dtype not in ("uint8", "float32"):
        raise TypeError(f"{op}: expected images of uint8 or float32, got {shared.dtype}")
    axes = "(n, height, width, channels)" if channels_last else "(n, channels, height, width)"
    if len(shared.shape) != 4 or 0 in shared.shape[1:]:
        raise ValueError(f"{op}: expected images of shape {axes}, got {shared.shape}")
    channels = shared.shape[3 if channels_last else 1]
    if channels > MAX_CHANNELS:
        raise ValueError(
            f"{op}: expected images of shape {axes} with at most {MAX_CHANNELS} channels, got "
            f"{shared.shape}"
        )
    return shared


def call(
    transform: Augmentation,
    images: Any,
    labels: Any,
    seed: int | None,
    epoch: int,
    index: Any,
    channels_last: bool,
) -> Any:
    """What calling a transform does."""
    name = type(transform).__name__
    images = images if hasattr(images, "shape") else np.asarray(images)
    single = len(images.shape) == 3
    x = as_images(name, images[None] if single else images, channels_last)
    runner = Runner(transform, x.shape[1:], x.dtype == "float32", channels_last)
    rows = x.shape[0]
    ids = np.arange(rows) if index is None else np.asarray(index)
    if ids.shape != (rows,) or ids.dtype.kind not in "iu" or (rows and ids.min() < 0):
        raise ValueError(f"{name}: expected index with {rows} samples >= 0, got {index}")
    if (labels is None) != (runner.mixes is None):
        raise ValueError(
            f"{name}: expected labels for a transform that mixes images, and for no other, got "
            f"{'none' if labels is None else 'some'}"
        )
    runner.start(*_place(seed, epoch))
    y, shares = runner.whole(np.asarray(x), labels, ids.astype(np.int64))
    if labels is None:
        return y[0] if single else y
    return y, shares


def _place(seed: int | None, epoch: int) -> tuple[int, int]:
    """(seed, epoch) as given, or from the generator, which goes on."""
    if seed is not None:
        return seed, epoch
    state = random.get_state()
    seed, offset = state["augment"]
    state["augment"] = [seed, offset + 1]
    random.set_state(state)
    return seed, offset
