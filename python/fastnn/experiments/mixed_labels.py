"""X27: labels of mixed images. The border cuts most of CutMix's boxes, so its label is counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import data
from fastnn.data.augment import CutMix, MixUp
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, equal, near

SIDE = 32
WHY = "AUG-7, AUG-8, exact; 5 standard errors"


def run(seed: int, quick: bool) -> Result:
    """What is left of the first image, as it was drawn and after the border has cut the box."""
    n = 4_000 if quick else 40_000
    x, y = np.arange(n) % 2, np.arange(n) % 2  # images of nothing but their class
    images = np.broadcast_to(x.astype(np.float32)[:, None, None, None], (n, 1, SIDE, SIDE))
    _, drawn = MixUp(alpha=1.0, num_classes=2)(images, y, seed=seed)
    _, spiky = MixUp(alpha=0.2, num_classes=2)(images, y, seed=seed)
    mixed, labels = CutMix(alpha=1.0, num_classes=2)(images, y, seed=seed)
    before, small, after = (shares[np.arange(n), y] for shares in (drawn, spiky, labels))
    error = 5 / np.sqrt(n)
    numbers = [
        near("l as drawn: mean", before.mean(), 0.5, "X27; 5 standard errors", abs=0.289 * error),
        near("l after the border: mean", after.mean(), 0.7, "X27", abs=0.001 + 0.27 * error),
        near("less its expectation", after.mean() - _expected(), 0, WHY, abs=0.27 * error),
        equal("largest |label - share of pixels|", _wrong(mixed, labels), 0.0, "AUG-8, exact"),
        near("Beta(1, 1): std of l", before.std(), 12**-0.5, WHY, abs=0.13 * error),
        near("Beta(0.2, 0.2): std of l", small.std(), 5.6**-0.5, WHY, abs=0.13 * error),
    ]
    return Result(numbers, lambda f: _draw(f, before, after, seed), (11, 3.2))


def _expected() -> float:
    """The box reaches k = floor(sqrt(1 - l) side / 2) pixels from a random pixel each way."""
    half = SIDE // 2
    k = np.arange(half + 1)
    likely = np.clip((k + 1) / half, 0, 1) ** 2 - (k / half) ** 2  # 1 - l is uniform
    place = np.arange(SIDE)[:, None]
    inside = (np.minimum(SIDE, place + k) - np.maximum(0, place - k)).mean(0) / SIDE
    return float(1 - (likely * inside**2).sum())


def _wrong(mixed: Any, labels: Any) -> float:
    """Images are their classes, so their means are the shares of class 1."""
    counted = np.rint(mixed.sum((1, 2, 3), dtype=np.float64)) / SIDE**2
    return float(np.abs(labels[:, 1] - counted.astype(np.float32)).max())


def _draw(figure: Any, before: Any, after: Any, seed: int) -> None:
    digits = data.load_digits()
    y = np.asarray(digits.y)[:2]
    images = np.kron(digits.images[:2], np.ones((1, 1, 4, 4))).astype(np.float32)
    axes = axes_of(figure, 4)
    axes[0].set_title("share of the first image", fontsize=10)
    for values, name, color in (
        (before, "as drawn", COLORS[0]),
        (after, "after the border", COLORS[1]),
    ):
        axes[0].hist(
            values, bins=32, range=(0, 1), histtype="step", color=color, label=name, density=True
        )
        axes[0].axvline(values.mean(), color=color, linestyle=":")
    axes[0].legend(frameon=False, loc="upper left")
    for a, (name, kind) in zip(
        axes[1:], (("a digit", None), ("mixup", MixUp), ("CutMix", CutMix)), strict=True
    ):
        x, shares = (images, np.eye(10)[y]) if kind is None else kind(1.0, 10)(images, y, seed=seed)
        a.imshow(x[1, 0], cmap="gray_r", vmin=0, vmax=16)
        found = [f"{label}: {share:.2f}" for label, share in enumerate(shares[1]) if share]
        a.set_title(f"{name}, {', '.join(found)}", fontsize=10)
        a.set_axis_off()
