"""X28: ten crops at each of five scales are 50 views of an image; probabilities are averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.data.augment import Resize, average_views, ten_crop
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_most, equal

SCALES = (224, 256, 384, 480, 640)
SIZE = 224
NAMES = ("upper left", "upper right", "lower left", "lower right", "middle")


def run(seed: int, quick: bool) -> Result:
    """The views of a picture, and what averaging them does to a model that is noisy."""
    picture = _picture(240, 320)
    views: list[Any] = []

    def predict(crops: Any) -> Any:
        views.append(crops)
        noise = np.random.default_rng([seed, len(views)]).normal(0, 0.1)
        return np.array([[0.6 + noise, 0.4 - noise]])

    mean = average_views(predict, picture, SIZE, SCALES)
    each = [0.6 + np.random.default_rng([seed, i]).normal(0, 0.1) for i in range(1, 51)]
    square = Resize(SIZE)(picture[..., :240])
    numbers = [
        equal("views", len(views), 50, "X28: 5 scales of 10 crops"),
        equal("height of a view", max(v.shape[2] for v in views), SIZE, "AUG-4"),
        equal("width of a view", max(v.shape[3] for v in views), SIZE, "AUG-4"),
        equal(
            "different views", _different(views), 50 - 4, "224: corners coincide, upper and lower"
        ),
        equal("those of a square at 224", _different(ten_crop(square, SIZE)), 2, "AUG-4 E"),
        at_most("|mean - mean of each|", abs(mean[0, 0] - np.mean(each)), 1e-12, "AUG-4"),
        at_most("error of the mean", abs(mean[0, 0] - 0.6), 0.1 * 4 / 50**0.5, "4 sd / sqrt(50)"),
    ]
    return Result(numbers, lambda f: _draw(f, picture, views), (11, 4.2))


def _different(views: Any) -> int:
    return len({np.asarray(view).tobytes() for view in views})


def _picture(height: int, width: int) -> Any:
    """Something that looks different everywhere, and mirrored: rings around a point off centre."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rings = np.hypot(x - 0.3 * width, y - 0.6 * height)
    channels = [np.cos(rings / 9), np.cos(rings / 15 + x / 40), np.sin(y / 20 + x / 70)]
    return (127 + 120 * np.stack(channels)).astype(np.uint8)[None]


def _draw(figure: Any, picture: Any, views: Any) -> None:
    axes = axes_of(figure, 6, rows=2)
    axes[0].imshow(picture[0].transpose(1, 2, 0))
    axes[0].set_title("240 x 320", fontsize=10)
    for a, view, name in zip(axes[1:6], views[20:25], NAMES, strict=True):  # at scale 384
        a.imshow(view[0].transpose(1, 2, 0))
        a.set_title(f"384: {name}", fontsize=10)
    for a, i in zip(axes[7:12], range(5), strict=True):
        a.imshow(views[10 * i + 9][0].transpose(1, 2, 0))
        a.set_title(f"{SCALES[i]}: mirrored", fontsize=10)
    for a in axes:
        a.set_axis_off()
    axes[6].set_axis_on()
    axes[6].set_title("crops at each scale", fontsize=10)
    for scale, color in zip(SCALES, COLORS, strict=False):
        axes[6].plot([0, scale * 4 / 3, scale * 4 / 3, 0, 0], [0, 0, scale, scale, 0], color=color)
    axes[6].fill([0, SIZE, SIZE, 0], [0, 0, SIZE, SIZE], color="#dddddd")
    axes[6].set_aspect("equal")
    axes[6].invert_yaxis()
