"""X29: six filters of 5 x 5 x 3 on a picture of 32 x 32 x 3 give six maps of 28 x 28."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import nn
from fastnn.experiments.common import axes_of
from fastnn.experiments.result import Result, equal, near


def run(seed: int, quick: bool) -> Result:
    """The maps of a random layer for a coloured ring, and one value by hand."""
    y, x = np.mgrid[0:32, 0:32] - 15.5
    ring = np.exp(-((np.hypot(x, y) - 9) ** 2) / 6)
    picture = np.stack([ring, ring * (x > 0), ring * (y > 0)]).astype(np.float32)[None]
    layer = nn.Conv2d(3, 6, 5)
    maps = np.asarray(layer(picture).detach())
    weight, bias = (np.asarray(p.detach(), np.float64) for p in layer.parameters())
    by_hand = (picture[0, :, 10:15, 7:12] * weight[4]).sum() + bias[4]
    numbers = [
        equal("maps", maps.shape[1], 6, "X29"),
        equal("height", maps.shape[2], 28, "LAY-3: 32 - 5 + 1"),
        equal("width", maps.shape[3], 28, "LAY-3: 32 - 5 + 1"),
        equal("parameters", layer.num_parameters(), 456, "6 (5 5 3 + 1)"),
        near("one value less that by hand", maps[0, 4, 10, 7] - by_hand, 0, "LAY-3", abs=1e-5),
    ]
    return Result(numbers, lambda f: _draw(f, picture[0], maps[0]), (11, 2.2))


def _draw(figure: Any, picture: Any, maps: Any) -> None:
    axes = axes_of(figure, 7, ["32 x 32 x 3", *(f"map {i}, 28 x 28" for i in range(6))])
    axes[0].imshow(picture.transpose(1, 2, 0))
    for a, values in zip(axes[1:], maps, strict=True):
        a.imshow(values, cmap="viridis")
    for a in axes:
        a.set_axis_off()
