"""The kinds of data that the runs of diagnose_runs.py are trained on.

Those of the held-out set are its own; what earlier held-out sets had is in the development set now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import fastnn as fn
import numpy as np


@dataclasses.dataclass
class Data:
    x: Any
    y: Any
    classes: int

    def split(self, train: int, val: int) -> tuple[Any, Any]:
        a, b = slice(train), slice(train, train + val)
        return (self.x[a], self.y[a]), (self.x[b], self.y[b])


def standard(x: Any) -> Any:
    return ((x - x.mean(0)) / (x.std(0) + 1e-6)).astype(np.float32)


# ---- development ---------------------------------------------------------------------------------


def digits(rng: Any, among: Any = range(10)) -> Data:
    data = fn.data.load("digits")
    order = rng.permutation(np.flatnonzero(np.isin(data.y, among)))
    return Data(standard(data.x[order]), np.searchsorted(among, data.y[order]), len(among))


def even_digits(rng: Any) -> Data:
    return digits(rng, range(0, 10, 2))


def odd_digits(rng: Any) -> Data:
    return digits(rng, range(1, 10, 2))


def blobs(rng: Any, low: int = 3, high: int = 7) -> Data:
    classes, features = int(rng.integers(low, high)), int(rng.integers(6, 16))
    y = rng.integers(0, classes, 1200)
    centers = rng.normal(0, 2.0, (classes, features))
    return Data(standard(centers[y] + rng.normal(size=(1200, features))), y, classes)


def many_blobs(rng: Any) -> Data:
    return blobs(rng, 7, 11)


def rings(rng: Any) -> Data:
    y = rng.integers(0, 2, 1200)
    angle, radius = rng.uniform(0, 2 * np.pi, 1200), 1.0 + 1.2 * y + rng.normal(0, 0.12, 1200)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(size=1200)], 1)
    return Data(standard(x), y, 2)


def moons(rng: Any) -> Data:
    y = rng.integers(0, 2, 1200)
    t = rng.uniform(0, np.pi, 1200)
    x = np.stack([np.cos(t) + y, (1 - 2 * y) * np.sin(t) + 0.5 * y], 1)
    return Data(standard(x + rng.normal(0, 0.08, x.shape)), y, 2)


def stretched(rng: Any) -> Data:
    """Clusters whose features depend on each other, with some samples far out."""
    classes, features = int(rng.integers(4, 9)), int(rng.integers(8, 21))
    y = rng.integers(0, classes, 1200)
    noise = rng.standard_t(5, (1200, features)) @ rng.normal(size=(features, features))
    centers = rng.normal(0, 2.2 * np.sqrt(features), (classes, features))
    return Data(standard(centers[y] + noise), y, classes)


def spirals(rng: Any) -> Data:
    arms = int(rng.integers(2, 4))
    y, t = rng.integers(0, arms, 1200), rng.uniform(0.3, 1.0, 1200)
    angle = 2 * np.pi * (y / arms + 0.6 * t)
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], 1)
    return Data(standard(x + rng.normal(0, 0.03, x.shape)), y, arms)


def quadrants(rng: Any) -> Data:
    """Whether two of four features have the same sign; few samples are near the border."""
    x = rng.normal(size=(1200, 4))
    x[:, :2] += 0.5 * np.sign(x[:, :2])
    return Data(standard(x), (x[:, 0] * x[:, 1] > 0).astype(np.int64), 2)


def uneven_rings(rng: Any) -> Data:
    """Three rings, of which some are rarer than others."""
    y = rng.choice(3, 1200, p=rng.permutation([0.5, 0.3, 0.2]))
    angle, radius = rng.uniform(0, 2 * np.pi, 1200), 1.0 + 1.2 * y + rng.normal(0, 0.15, 1200)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return Data(standard(x), y, 3)


def high_digits(rng: Any) -> Data:
    """As images, for a convolution."""
    data = digits(rng, range(5, 10))
    return dataclasses.replace(data, x=data.x.reshape(-1, 1, 8, 8))


def strokes(rng: Any) -> Data:
    """Images of a bar: upright, lying or on a diagonal, at some place and in noise."""
    y, side = rng.integers(0, 4, 1200), np.arange(8)
    across, down = np.meshgrid(side, side)
    place = rng.integers(-2, 3, (1200, 1, 1))
    lines = np.stack([across - 3.5, down - 3.5, across - down, across + down - 7.0])[y]
    x = (np.abs(lines - place) < 1.0) + rng.normal(0, 0.35, (1200, 8, 8))
    return Data(standard(x).reshape(-1, 1, 8, 8), y, 4)


def uneven_clusters(rng: Any) -> Data:
    """Clusters of different sizes and widths, some classes three times as frequent as others."""
    classes, features = int(rng.integers(3, 8)), int(rng.integers(5, 15))
    share = rng.permutation(np.linspace(1.0, 3.0, classes))
    y = rng.choice(classes, 1200, p=share / share.sum())
    centers, width = rng.normal(0, 2.2, (classes, features)), rng.uniform(0.5, 1.3, classes)
    return Data(
        standard(centers[y] + width[y, None] * rng.normal(size=(1200, features))), y, classes
    )


def teacher(rng: Any) -> Data:
    """What a random network answers, where it is sure."""
    classes, features = int(rng.integers(2, 5)), int(rng.integers(5, 11))
    x = rng.normal(size=(6000, features))
    hidden = np.tanh(x @ rng.normal(0, 1.2 / np.sqrt(features), (features, 12)))
    out = hidden @ rng.normal(size=(12, classes))
    out -= out.mean(0)
    top = np.sort(out, 1)
    sure = np.argsort(top[:, -2] - top[:, -1], kind="stable")[:2400]
    kept = rng.permutation(sure)[:1200]
    return Data(standard(x[kept]), out[kept].argmax(1), classes)


def stripes(rng: Any) -> Data:
    """Which of several stripes across a plane, their classes repeating."""
    classes = int(rng.integers(2, 4))
    x = rng.uniform(0, 1, (1200, 3))
    at = np.floor(x[:, 0] * 2 * classes)
    x[:, 0] += (at + 0.5 - x[:, 0] * 2 * classes) * 0.25 / classes  # away from the borders
    return Data(standard(x), at.astype(np.int64) % classes, classes)


def categories(rng: Any) -> Data:
    """A table: three columns of categories, one-hot, and two of numbers; a rule on two of them."""
    columns = rng.integers(0, 4, (1200, 3))
    numbers = rng.normal(size=(1200, 2))
    y = ((columns[:, 0] + columns[:, 1]) % 3 == 0) | ((columns[:, 2] == 1) & (columns[:, 0] > 1))
    x = np.concatenate([*(np.eye(4)[c] for c in columns.T), numbers], 1)
    return Data(standard(x), y.astype(np.int64), 2)


# ---- held out ------------------------------------------------------------------------------------


def remainders(rng: Any) -> Data:
    """Digits, as images, by what they leave when divided by three."""
    data = digits(rng)
    return Data(data.x.reshape(-1, 1, 8, 8), data.y % 3, 3)


def checkers(rng: Any) -> Data:
    """The colour of a board's field; few samples are near a border."""
    fields = int(rng.integers(2, 4))
    at, inside = rng.integers(0, fields, (1200, 2)), rng.uniform(0.12, 0.88, (1200, 2))
    return Data(standard(at + inside), at.sum(1) % 2, 2)


def shells(rng: Any) -> Data:
    """How far from the middle of some dimensions, in steps with gaps."""
    classes, features = int(rng.integers(2, 4)), int(rng.integers(3, 6))
    y, x = rng.integers(0, classes, 1200), rng.normal(size=(1200, features))
    x *= ((1.0 + y + rng.uniform(-0.3, 0.3, 1200)) / np.linalg.norm(x, axis=1))[:, None]
    return Data(standard(x), y, classes)


def waves(rng: Any) -> Data:
    """Series of 24 numbers: a wave of some frequency, at any phase and in noise."""
    classes = int(rng.integers(3, 6))
    y, t = rng.integers(0, classes, 1200), np.arange(24) / 24
    phase, height = rng.uniform(0, 2 * np.pi, (1200, 1)), rng.uniform(0.8, 1.3, (1200, 1))
    x = height * np.sin(2 * np.pi * (1.0 + 1.5 * y[:, None]) * t + phase)
    return Data(standard(x + rng.normal(0, 0.3, x.shape)).reshape(-1, 1, 24), y, classes)


def topics(rng: Any) -> Data:
    """Counts of words in short texts about one of some topics."""
    classes, words = int(rng.integers(3, 8)), int(rng.integers(20, 41))
    y = rng.integers(0, classes, 1200)
    share = rng.dirichlet(np.full(words, 0.4), classes)[y]
    x = rng.poisson(30 * (0.8 * share + 0.2 / words))
    return Data(standard(np.log1p(x)), y, classes)


def several_centers(rng: Any) -> Data:
    """Classes of two or three clusters each, side by side with those of others."""
    classes, each, features = int(rng.integers(2, 5)), int(rng.integers(2, 4)), 6
    centers = rng.normal(0, 2.4, (classes, each, features))
    y, part = rng.integers(0, classes, 1200), rng.integers(0, each, 1200)
    return Data(standard(centers[y, part] + rng.normal(size=(1200, features))), y, classes)


def largest(rng: Any) -> Data:
    """Which of some numbers is the largest, where there are others beside them."""
    classes = int(rng.integers(3, 6))
    x = rng.normal(size=(4000, classes + 3))
    top = np.sort(x[:, :classes], 1)
    x = x[top[:, -1] - top[:, -2] > 0.3][:1200]
    return Data(standard(x), x[:, :classes].argmax(1), classes)


DATA: dict[str, tuple[Callable[[Any], Data], ...]] = {
    "dev": (
        digits, even_digits, odd_digits, blobs, many_blobs, rings, uneven_rings, moons, stretched,
        spirals, quadrants, high_digits, strokes, uneven_clusters, teacher, stripes, categories,
    ),
    "held-out": (remainders, checkers, shells, waves, topics, several_centers, largest),
}  # fmt: skip
