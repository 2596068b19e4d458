"""Means of images: one of all images, one per channel, or one of each image itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, number, samples
from fastnn.data.preprocessing.statistics import RunningStatistics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ImageNormalizer"]

_MODES = ("mean_image", "channel_mean", "channel_mean_std", "per_image")


@dataclasses.dataclass(eq=False)
class ImageNormalizer(Transform):
    """(image - mean_) / scale_, with the mean of the mode.

    ===================  ==================================  =====================  ===============
    mode                 ``mean_``                           ``scale_``             known from
    ===================  ==================================  =====================  ===============
    "mean_image"         the mean image, shape of an image   1                      AlexNet
    "channel_mean"       one per channel                     1                      VGG
    "channel_mean_std"   one per channel                     standard deviation     ResNet (torch)
    "per_image"          not fitted: each image's own mean   1                      003
    ===================  ==================================  =====================  ===============

    Args:
        mode: One of these.
        channel_axis: The axis of channels in x: 1 for (n, c, h, w), -1 for (n, h, w, c).

    Attributes:
        mean_: See above; 0 for ``"per_image"``.
        scale_: See above; 1 for a channel that does not vary.

    Raises:
        ValueError: For an unknown mode, or an axis that is none of x.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import ImageNormalizer
        >>> x = np.arange(24.0).reshape(2, 3, 2, 2)
        >>> normalizer = ImageNormalizer("channel_mean_std").fit(x)
        >>> print(normalizer.mean_, normalizer.scale_.round(3))
        [ 7.5 11.5 15.5] [6.103 6.103 6.103]

    Source:
        Krizhevsky, Sutskever, Hinton 2012; Simonyan, Zisserman 2014; Gross, Wilber 2016 (the std).
    """

    mode: str = "channel_mean_std"
    channel_axis: int = 1
    mean_: Floats = number("...")
    scale_: Floats = number("...")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in _MODES:
            raise ValueError(
                f"ImageNormalizer: expected mode to be one of {', '.join(_MODES)}, got "
                f"{str(self.mode)[:80]!r}"
            )
        if type(self.channel_axis) is not int or self.channel_axis == 0:
            raise ValueError(
                f"ImageNormalizer: expected channel_axis to be no axis of samples, got "
                f"{str(self.channel_axis)[:80]}"
            )

    def _check(self, x: ArrayLike) -> Array:
        images = samples("ImageNormalizer", x, 3)
        if not -images.ndim < self.channel_axis < images.ndim:
            raise ValueError(
                f"ImageNormalizer: expected channel_axis to be an axis of an image, got "
                f"{self.channel_axis} for x {images.shape}"
            )
        return images

    def _fit(self, x: Array) -> dict[str, Any]:
        if self.mode == "per_image":
            return {"mean_": 0.0, "scale_": 1.0}
        statistics = RunningStatistics()
        if self.mode == "mean_image":
            statistics.update(x)
        else:
            statistics.update(np.moveaxis(x, self.channel_axis, -1).reshape(-1, self._channels(x)))
        scale = np.ones_like(statistics.mean)
        if self.mode == "channel_mean_std":
            scale = statistics.scale()
        return {"mean_": statistics.mean, "scale_": scale}

    def _channels(self, x: Array) -> int:
        return int(x.shape[self.channel_axis])

    def _like_fitted(self, x: Array, side: int) -> Floats:
        self._check_fitted()
        if self.mode == "mean_image" and x.shape[1:] != self.mean_.shape:
            expected = ", ".join(map(str, ("n", *self.mean_.shape)))
            raise ValueError(f"ImageNormalizer: expected x of shape ({expected}), got {x.shape}")
        if self.mode.startswith("channel") and (self._channels(x),) != self.mean_.shape:
            raise ValueError(
                f"ImageNormalizer: expected {len(self.mean_)} channels in axis "
                f"{self.channel_axis}, got x {x.shape}"
            )
        return x.astype(np.float64, copy=False)

    def _along(self, values: Floats, x: Floats) -> Floats:
        """Values per channel, placed so that they meet the channels of x."""
        if not self.mode.startswith("channel"):
            return values
        shape = [1] * x.ndim
        shape[self.channel_axis] = -1
        return values.reshape(shape)

    def _apply(self, x: Floats) -> Floats:
        if self.mode == "per_image":
            own: Floats = x.mean(tuple(range(1, x.ndim)), keepdims=True)
            return x - own
        return (x - self._along(self.mean_, x)) / self._along(self.scale_, x)

    def _invert(self, x: Floats) -> Floats:
        if self.mode == "per_image":
            raise NotImplementedError("ImageNormalizer: cannot be inverted with mode 'per_image'")
        return x * self._along(self.scale_, x) + self._along(self.mean_, x)

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        mean, scale = numbers["mean_"], numbers["scale_"]
        axes = {"per_image": 0, "mean_image": max(2, mean.ndim)}.get(self.mode, 1)
        if mean.shape != scale.shape or mean.ndim != axes:
            raise ValueError(
                f"ImageNormalizer: expected mean_ and scale_ of {axes} axes and one shape, got "
                f"{mean.shape} and {scale.shape}"
            )
        if not (scale > 0).all():
            raise ValueError("ImageNormalizer: expected scale_ > 0")
