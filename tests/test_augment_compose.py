"""Augmentation: transforms made of transforms, and what is folded into its neighbours."""

import itertools
from collections import Counter

import numpy as np
import pytest
from fastnn.data import augment

RNG = np.random.default_rng(3)


def same_after(images, *transforms):
    """Each transform by itself, what is drawn still by its place in the whole program."""
    apart = [step for t in transforms for step in (t, lambda image: image)]
    return augment.Compose(apart)(images, seed=5)


def test_random_order_is_each_order_as_often():
    """Maps of grey levels: what comes out says in which order they came, in nested orders too."""
    n, one = 24_000, augment.ColorJitter
    double, half = one(brightness=(2, 2)), one(brightness=(0.5, 0.5))
    invert, cut = augment.RandomInvert(1.0), augment.RandomPosterize(2, 1.0)
    maps = {"d": lambda v: min(2 * v, 255), "h": lambda v: v // 2, "i": lambda v: 255 - v,
            "p": lambda v: v & 0xC0}  # fmt: skip

    def result(order, start=77):
        for name in order:
            start = maps[name](start)
        return start

    images = np.full((n, 1, 1, 1), 77, np.uint8)
    orders = {result(o): o for o in itertools.permutations("dhip")}
    counts = Counter(
        augment.RandomOrder([double, half, invert, cut])(images, seed=0).ravel().tolist()
    )
    expected = Counter(result(o) for o in itertools.permutations("dhip"))
    assert set(counts) == set(expected)
    assert len(orders) > 10
    for value, share in expected.items():
        p = share / 24
        assert abs(counts[value] - n * p) < 6 * np.sqrt(n * p * (1 - p))
    nested = augment.RandomOrder([double, augment.RandomOrder([invert, cut]), half])
    allowed = [o for o in itertools.permutations("dhip") if abs(o.index("i") - o.index("p")) == 1]
    counts = Counter(nested(images, seed=0).ravel().tolist())
    expected = Counter(result(o) for o in allowed)
    assert set(counts) == set(expected)
    for value, share in expected.items():
        p = share / 12
        assert abs(counts[value] - n * p) < 6 * np.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(
    "flip", [augment.RandomHorizontalFlip(1.0), augment.RandomVerticalFlip(1.0)]
)
def test_flips_move_no_pixels_and_change_no_result(flip):
    """Wide enough for whole vectors: resized as they lie to a grey level, colours exactly."""
    images = RNG.integers(0, 256, (6, 3, 71, 150), dtype=np.uint8)
    resize = augment.RandomResizedCrop((67, 139))
    moved, folded = (
        same_after(images, flip, resize),
        augment.Compose([flip, resize])(images, seed=5),
    )
    assert np.abs(moved.astype(int) - folded).max() <= 1
    jitter = augment.ColorJitter(0.4, 0.4, 0.4, 0.1)
    for colour in (jitter, augment.RandomEqualize(1.0), augment.RandomAdjustSharpness(2, 1.0)):
        steps = (resize, flip, colour, flip)
        assert (
            same_after(images, *steps).tobytes() == augment.Compose(steps)(images, seed=5).tobytes()
        )


def test_jitter_by_nothing_changes_nothing():
    images = RNG.random((3, 3, 9, 8), np.float32)
    assert augment.ColorJitter(0.0, 0.0, 0.0, 0.0)(images, seed=0).tobytes() == images.tobytes()
