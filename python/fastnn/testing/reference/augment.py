"""Augmentations in float64, from the words that a sample's transform draws.

Pixels of geometry and colours have Pillow as their oracle (tests/test_augment_pillow.py); here is
what it does not have, and how words become numbers.
"""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from fastnn.testing.reference.random import STREAMS, philox4x32

Array = np.ndarray[Any, Any]
_SAMPLE_BITS, _SLOT_BITS, _PIXELS = 24, 48, 256


class Words:
    """What one transform (by its place in the program) draws for one sample in an epoch."""

    def __init__(self, seed: int, epoch: int, sample: int, slot: int = 0) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32)
        self._offset = (STREAMS["augment"] << 56) + (slot << _SLOT_BITS) + epoch
        self._block = sample << _SAMPLE_BITS
        self._used = 0

    def _blocks(self, first: int, count: int) -> Array:
        block = self._block + first + np.arange(count, dtype=np.uint64)
        counter = np.empty((count, 4), np.uint64)
        counter[:, 0], counter[:, 1] = block & np.uint64(0xFFFFFFFF), block >> np.uint64(32)
        counter[:, 2], counter[:, 3] = self._offset & 0xFFFFFFFF, self._offset >> 32
        return philox4x32(counter, self._key)

    def next(self) -> int:
        """The next word."""
        word = self._blocks(self._used // 4, 1)[0, self._used % 4]
        self._used += 1
        return int(word)

    def uniform(self) -> float:
        """The top 24 bits, as a number from 0 to 1."""
        return (self.next() >> 8) / 2.0**24

    def happens(self, p: float) -> bool:
        """True with probability p."""
        return self.uniform() < float(np.float32(p))

    def range(self, low: float, high: float) -> float:
        """Uniform between two floats."""
        low, high = float(np.float32(low)), float(np.float32(high))
        return low + (high - low) * self.uniform()

    def below(self, n: int) -> int:
        """A whole number below n."""
        return self.next() * n >> 32

    def ratio(self, low: float, high: float) -> float:
        """exp of a uniform logarithm."""
        return float(np.exp(np.log(low) + (np.log(high) - np.log(low)) * self.uniform()))

    def normal(self) -> float:
        """See :func:`normal`."""
        return float(normal(np.array([self.next()], np.uint32))[0])

    def pixels(self, n: int) -> Array:
        """The words of the first n pixels."""
        return self._blocks(_PIXELS, -(-n // 4)).reshape(-1)[:n]


def normal(words: Array) -> Array:
    """The inverse of the normal distribution function: the sign, and a tail of 23 bits."""
    from statistics import NormalDist

    tail = ((words >> np.uint32(8) & np.uint32(0x7FFFFF)).astype(np.float64) + 0.5) / 2.0**23
    size = np.array([-NormalDist().inv_cdf(q / 2) for q in tail])
    return np.where(words >> np.uint32(31), -size, size)


def random_box(
    words: Words, scale: Any, ratio: Any, height: int, width: int, tall: bool
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a share of the area; ratio is height / width if ``tall``."""
    for _ in range(10):
        area = words.range(*scale) * height * width
        aspect = words.ratio(*ratio)
        h, w = np.sqrt(area / aspect), np.sqrt(area * aspect)
        h, w = (w, h) if tall else (h, w)
        h, w = int(np.floor(h + 0.5)), int(np.floor(w + 0.5))
        fits = h < height and w < width if tall else h <= height and w <= width
        if h > 0 and w > 0 and fits:
            top = words.below(height - h + 1)
            return top, words.below(width - w + 1), h, w
    return None


def jitter_order(words: Words) -> list[int]:
    """The order of brightness, contrast, saturation, hue: Fisher and Yates."""
    order = [0, 1, 2, 3]
    for i in (3, 2, 1):
        j = words.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def lens(image: Array, k: float) -> Array:
    """An image (height, width) read bilinearly at d (1 + k d^2) from its middle; 0 outside."""
    height, width = image.shape
    result = np.zeros((height, width))
    for r in range(height):
        for c in range(width):
            x, y = c + 0.5 - width / 2, r + 0.5 - height / 2
            factor = 1 + k * (x * x + y * y) / ((width / 2) ** 2 + (height / 2) ** 2)
            x, y = x * factor + width / 2, y * factor + height / 2
            if 0 <= x < width and 0 <= y < height:
                result[r, c] = bilinear(image, x - 0.5, y - 0.5)
    return result


def bilinear(image: Array, x: float, y: float) -> float:
    """Between four pixels; the border's stand for those beyond it."""
    height, width = image.shape
    left, top = int(np.floor(x)), int(np.floor(y))
    dx, dy = x - left, y - top
    rows, cols = np.clip([top, top + 1], 0, height - 1), np.clip([left, left + 1], 0, width - 1)
    four = image[np.ix_(rows, cols)].astype(np.float64)
    return float(np.array([1 - dy, dy]) @ four @ np.array([1 - dx, dx]))


def turn_hue(image: Array, turn: float) -> Array:
    """The hue of an RGB image (3, height, width) from 0 to 1 turned; Python's colorsys."""
    result = np.empty(image.shape)
    for at in np.ndindex(*image.shape[1:]):
        h, s, v = colorsys.rgb_to_hsv(*(float(p) for p in image[(slice(None), *at)]))
        result[(slice(None), *at)] = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
    return result


def lighting(image: Array, words: Words, sd: float, eigval: Any, eigvec: Any) -> Array:
    """An RGB image (3, height, width) with sum_k a_k l_k p_k added to each pixel."""
    amounts = np.array([sd * words.normal() for _ in range(3)]) * np.asarray(eigval)
    changed: Array = image + (np.asarray(eigvec) @ amounts)[:, None, None]
    return changed


def log_gamma(words: Words, alpha: float) -> float:
    """The logarithm of a Gamma(alpha, 1) number (Marsaglia, Tsang 2000)."""
    a = alpha + 1 if alpha < 1 else alpha
    d = a - 1 / 3
    c = 1 / np.sqrt(9 * d)
    while True:
        x, u = words.normal(), ((words.next() >> 8) + 0.5) / 2.0**24
        v = (1 + c * x) ** 3
        if v > 0 and np.log(u) < 0.5 * x * x + d - d * v + d * np.log(v):
            break
    result = float(np.log(d * v))
    if alpha < 1:
        result += float(np.log(((words.next() >> 8) + 0.5) / 2.0**24)) / alpha
    return result


def beta(words: Words, alpha: float) -> float:
    """A Beta(alpha, alpha) number."""
    first, second = log_gamma(words, alpha), log_gamma(words, alpha)
    return float(1 / (1 + np.exp(second - first)))


def cutmix_box(words: Words, share: float, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of (1 - share) of the area about a random pixel, clipped."""
    row, column = words.below(height), words.below(width)
    tall = int(0.5 * np.sqrt(1 - share) * height)
    wide = int(0.5 * np.sqrt(1 - share) * width)
    top, bottom = max(0, row - tall), min(height, row + tall)
    return top, max(0, column - wide), bottom, min(width, column + wide)
