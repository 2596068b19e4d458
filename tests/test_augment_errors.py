"""What augmentation refuses: each message to the letter."""

import numpy as np
import pytest
from fastnn.data import augment

IMAGES = np.zeros((4, 3, 33, 29), np.uint8)
FLOATS = np.zeros((4, 3, 33, 29), np.float32)

ERRORS = [
    (
        lambda: augment.RandomHorizontalFlip(1.5),
        "RandomHorizontalFlip: expected 0 <= p <= 1, got 1.5",
    ),
    (lambda: augment.RandomCrop(0), "RandomCrop: expected size of whole numbers >= 1, got 0"),
    (
        lambda: augment.RandomCrop(4, padding_mode="wrap"),
        "RandomCrop: expected padding_mode of ('constant', 'edge', 'reflect', 'symmetric'), got "
        "'wrap'",
    ),
    (
        lambda: augment.RandomCrop(40)(IMAGES),
        "RandomCrop: expected images of at least 40 x 40 pixels with their padding, got 33 x 29",
    ),
    (
        lambda: augment.Normalize(0.5, 0.5)(IMAGES),
        "Normalize: expected float32 images, got uint8; put ToDtype('float32', scale=True) before "
        "it",
    ),
    (
        lambda: augment.Normalize([0.5, 0.1], 0.5)(FLOATS),
        "Normalize: expected mean for 3 channels, got 2 numbers",
    ),
    (
        lambda: augment.ColorJitter(hue=0.7),
        "ColorJitter: expected hue (from, to) with -0.5 <= from <= to <= 0.5, got (-0.7, 0.7)",
    ),
    (
        lambda: augment.ColorJitter(0.1)(np.zeros((1, 2, 4, 4), np.uint8)),
        "ColorJitter: expected images of 1 or 3 channels, got 2",
    ),
    (
        lambda: augment.AutoAugment("mnist"),
        "AutoAugment: expected policy of ('imagenet', 'cifar10', 'svhn'), got 'mnist'",
    ),
    (
        lambda: augment.RandomInvert()(np.zeros((2, 3), np.uint8)),
        "RandomInvert: expected images of shape (n, channels, height, width), got (2, 3)",
    ),
    (
        lambda: augment.RandomInvert()(np.zeros((1, 1, 2, 2), np.int64)),
        "RandomInvert: expected images of uint8 or float32, got int64",
    ),
    (
        lambda: augment.CutMix(num_classes=2)(IMAGES[:2], [0, 2]),
        "CutMix: expected 0 <= labels < 2, got 2 at labels[1]",
    ),
    (
        lambda: augment.MixUp(num_classes=2)(IMAGES[:2], [0, 1]),
        "MixUp: expected float32 images, got uint8; put ToDtype('float32', scale=True) before it",
    ),
    (
        lambda: augment.CutMix(num_classes=2)(IMAGES),
        "CutMix: expected labels for a transform that mixes images, and for no other, got none",
    ),
    (
        lambda: augment.Compose([3]),
        "Compose: expected transforms or functions, got int",
    ),
    (
        lambda: augment.RandomApply([augment.RandomCrop(4)])(IMAGES),
        "RandomApply: expected transforms that keep the size and dtype of images, got "
        "[RandomCrop(size=4, padding=None, pad_if_needed=False, fill=0, padding_mode='constant')]",
    ),
    (
        lambda: augment.RandomOrder([augment.RandomInvert()] * 17),
        "RandomOrder: expected 1 to 16 transforms, got 17",
    ),
    (
        lambda: augment.RandomOrder([augment.Lambda(abs)]),
        "RandomOrder: expected transforms of single images, got Lambda",
    ),
    (
        lambda: augment.RandomOrder([augment.ToDtype()])(IMAGES),
        "RandomOrder: expected transforms that keep the size and dtype of images, got "
        "[ToDtype(dtype='float32', scale=False)]",
    ),
    (
        lambda: augment.Lambda(lambda image: image[0])(IMAGES),
        "Lambda: expected <lambda> to return uint8 of shape (3, 33, 29) as it was given, got uint8 "
        "of shape (33, 29)",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[m[:40] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
