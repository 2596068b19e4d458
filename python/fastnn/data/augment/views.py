"""Several views of each test image, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.augment.base import pair
from fastnn.data.augment.geometry import Resize, Size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["average_views", "ten_crop"]

Array = np.ndarray[Any, Any]


def ten_crop(images: ArrayLike, size: Size) -> tuple[Array, ...]:
    """The four corners and the middle, then the same of the images mirrored.

    Args:
        images: Shape (n, channels, height, width).
        size: Height and width of a crop, or one number for both.

    Returns:
        Ten arrays of shape (n, channels, size, size): upper left, upper right, lower left, lower
        right, middle, and those five mirrored.

    Raises:
        ValueError: If the images are smaller.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> crops = augment.ten_crop(np.arange(9).reshape(1, 1, 3, 3), 1)
        >>> [int(crop.item()) for crop in crops]
        [0, 2, 6, 8, 4, 2, 0, 8, 6, 4]

    Source:
        Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    """
    x = np.asarray(images)
    height, width = pair("ten_crop", "size", size)
    if x.ndim != 4 or x.shape[2] < height or x.shape[3] < width:
        raise ValueError(
            f"ten_crop: expected images of shape (n, channels, >= {height}, >= {width}), got "
            f"{x.shape}"
        )
    down, right = x.shape[2] - height, x.shape[3] - width
    places = [(0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))]
    mirrored = x[..., ::-1]
    return tuple(
        np.ascontiguousarray(source[:, :, top : top + height, left : left + width])
        for source in (x, mirrored)
        for top, left in places
    )


def average_views(
    predict: Callable[[Array], ArrayLike],
    images: ArrayLike,
    size: Size,
    scales: Sequence[int] = (224, 256, 384, 480, 640),
) -> Array:
    """The mean of a model's probabilities over ten crops at each of some scales.

    Args:
        predict: Takes a batch of crops, returns probabilities of shape (n, classes).
        images: uint8 or float32, shape (n, channels, height, width).
        size: Of the crops.
        scales: Lengths that the shorter side is resized to.

    Returns:
        Probabilities, float64 of shape (n, classes); with five scales they are means of 50 views.

    Raises:
        ValueError: If there is no scale, or one is smaller than a crop.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> views = []
        >>> def predict(crops):
        ...     views.append(crops.shape)
        ...     return np.full((len(crops), 2), 0.5)
        >>> images = np.zeros((3, 1, 20, 30), np.uint8)
        >>> augment.average_views(predict, images, 16, scales=(16, 18, 24, 32, 48)).shape
        (3, 2)
        >>> len(views), set(views)
        (50, {(3, 1, 16, 16)})

    Source:
        He, Zhang, Ren, Sun 2016, "Deep residual learning", section 3.4.
    """
    if len(scales) == 0:
        raise ValueError("average_views: expected at least one scale, got none")
    total: Any = 0.0
    for scale in scales:
        for crop in ten_crop(Resize(scale)(images), size):
            total = total + np.asarray(predict(crop), np.float64)
    mean: Array = total / (10 * len(scales))
    return mean
