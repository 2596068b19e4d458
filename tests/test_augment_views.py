"""Views of test images: count and places (X28), and means of probabilities."""

import re

import numpy as np
import pytest
from fastnn.data import augment

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 20, 31), dtype=np.uint8)


def test_places_of_ten_crops():
    crops = augment.ten_crop(IMAGES, (16, 20))
    corners = [(0, 0), (0, 11), (4, 0), (4, 11), (2, 6)]
    assert len(crops) == 10
    for (top, left), plain, other in zip(corners, crops[:5], crops[5:], strict=True):
        assert (plain == IMAGES[:, :, top : top + 16, left : left + 20]).all()
        assert (other == IMAGES[..., ::-1][:, :, top : top + 16, left : left + 20]).all()


def test_50_views_are_averaged():
    seen = []

    def predict(crops):
        seen.append(crops)
        rest = crops.mean((1, 2, 3)) / 255
        return np.stack([rest, 1 - rest], 1)

    scales = (16, 18, 20, 24, 32)
    y = augment.average_views(predict, IMAGES, 16, scales)
    assert len(seen) == 50
    assert np.abs(y.sum(1) - 1).max() < 1e-12
    expected = np.mean([s.mean((1, 2, 3)) / 255 for s in seen], 0)
    assert np.abs(y[:, 0] - expected).max() < 1e-12
    at_20 = augment.ten_crop(IMAGES, 16)  # the shorter side is 20 already
    assert all((a == b).all() for a, b in zip(seen[20:30], at_20, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: augment.ten_crop(IMAGES, 24),
            "ten_crop: expected images of shape (n, channels, >= 24, >= 24), got (4, 3, 20, 31)",
        ),
        (
            lambda: augment.average_views(len, IMAGES, 8, ()),
            "average_views: expected at least one scale, got none",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
