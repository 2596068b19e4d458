"""Augmentation: what is drawn, noise and boxes and mixing against the oracle, and the contracts:
the same images on any number of threads and instruction set, in any batch; labels conserved.
"""

import os
import re
import subprocess
import sys

import fastnn as fn
import numpy as np
import pytest
from fastnn.data import augment
from fastnn.testing.reference import augment as reference
from fastnn.testing.reference.augment import Words

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (40, 3, 33, 29), dtype=np.uint8)
FLOATS = (IMAGES / 255).astype(np.float32)
WIDE = RNG.integers(0, 256, (3, 3, 40, 171), dtype=np.uint8)  # whole vectors, and some pixels more

EVERY = [
    augment.RandomHorizontalFlip(),
    augment.RandomVerticalFlip(),
    augment.RandomCrop(24, padding=4, padding_mode="reflect"),
    augment.CenterCrop(20),
    augment.Pad((1, 2, 3, 4), fill=9, padding_mode="symmetric"),
    augment.Resize(17),
    augment.RandomResizedCrop(24),
    augment.RandomScaleCrop(24, 40, 20),
    augment.RandomAffine(20, (0.1, 0.2), (0.7, 1.3), (-9, 9, -5, 5), stretch=(0.8, 1.2)),
    augment.RandomRotation(45, fill=(1, 2, 3)),
    augment.RandomLensDistortion(0.3),
    augment.GaussianNoise(0.1, (0.05, 0.2)),
    augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
    augment.RandomGrayscale(0.5),
    augment.RandomInvert(),
    augment.RandomEqualize(),
    augment.RandomAutocontrast(),
    augment.RandomPosterize(3),
    augment.RandomSolarize(0.4),
    augment.RandomAdjustSharpness(1.7),
    augment.PCALighting(1.0),
    augment.RandomErasing(value="random"),
    augment.Cutout(2, 7, fill=5),
    augment.AutoAugment("imagenet"),
    augment.AutoAugment("cifar10", "bilinear"),
    augment.AutoAugment("svhn"),
    augment.RandAugment(),
    augment.TrivialAugmentWide(),
    augment.RandomApply([augment.RandomInvert(1.0), augment.RandomSolarize(0.3, 1.0)]),
    augment.RandomChoice([augment.RandomInvert(1.0), augment.RandAugment(1)]),
    augment.RandomOrder([augment.RandomInvert(), augment.RandAugment(1), augment.RandomEqualize()]),
    augment.ToDtype("float32", scale=True),
]
NORMALIZED = augment.Compose(
    [
        augment.RandomCrop(32, padding=4),
        augment.RandomHorizontalFlip(),
        augment.ColorJitter(0.3, 0.3, 0.3, 0.1),
        augment.ToDtype("float32", scale=True),
        augment.Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]),
        augment.RandomErasing(),
    ]
)


def name_of(transform):
    return re.sub(r"\W+", "-", str(transform))[:40]


# ---- contracts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [*EVERY, NORMALIZED], ids=name_of)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_depends_on_the_sample_alone(transform, dtype):
    """Not on the batch, its order, the number of threads, or the layout of memory."""
    images = IMAGES if dtype == "uint8" else FLOATS
    whole = transform(images, seed=7, epoch=3)
    order = RNG.permutation(len(images))[:13]
    threads = fn.get_num_threads()
    try:
        for count in (1, 3):
            fn.set_num_threads(count)
            part = transform(images[order], seed=7, epoch=3, index=order)
            assert part.tobytes() == whole[order].tobytes()
    finally:
        fn.set_num_threads(threads)
    last = transform(
        np.ascontiguousarray(images.transpose(0, 2, 3, 1)), seed=7, epoch=3, channels_last=True
    )
    assert np.ascontiguousarray(last.transpose(0, 3, 1, 2)).tobytes() == whole.tobytes()
    assert np.isfinite(whole).all()


DIGEST = """
import sys, hashlib
sys.path.insert(0, {folder!r})
import test_augment as t
for transform in [*t.EVERY, t.NORMALIZED]:
    for images in (t.IMAGES, t.FLOATS, t.WIDE):
        print(hashlib.sha256(transform(images, seed=1).tobytes()).hexdigest())
x, y = t.augment.MixUp(alpha=0.3, num_classes=40)(t.FLOATS, range(40), seed=0)
print(hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())
"""


def digests(level):
    code = DIGEST.format(folder=os.path.dirname(__file__))
    environment = {**os.environ, "FASTNN_CPU": level}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


@pytest.mark.skipif(not fn._core.cpu_level().startswith("v4"), reason="needs AVX-512")
def test_same_bits_on_v3_and_v4():
    assert digests("v3") == digests("v4")


def test_seed_and_epoch_matter_and_the_generator_goes_on():
    flip = augment.RandomCrop(20)
    assert (flip(IMAGES, seed=0) != flip(IMAGES, seed=1)).any()
    assert (flip(IMAGES, seed=0) != flip(IMAGES, seed=0, epoch=1)).any()
    fn.manual_seed(5)
    first, second = flip(IMAGES), flip(IMAGES)
    assert (first != second).any()
    fn.manual_seed(5)
    assert (flip(IMAGES) == first).all()
    assert (flip(IMAGES, seed=5, epoch=1) == second).all()


def test_fused_equals_one_after_the_other():
    """What changes the view only gives the pixels of transforms that run alone."""
    crop, flip = augment.RandomCrop(32, padding=4), augment.RandomHorizontalFlip(1.0)
    fused = augment.Compose([crop, flip, augment.ToDtype(scale=True), augment.Normalize(0.5, 0.2)])
    alone = crop(IMAGES, seed=2)[..., ::-1].astype(np.float64)
    y = fused(IMAGES, seed=2)
    assert np.abs(y - (alone / 255 - 0.5) / 0.2).max() < 2e-6


# ---- what is drawn, against the oracle ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_random_crop(mode):
    crop = augment.RandomCrop((30, 25), padding=(3, 6), fill=17, padding_mode=mode)
    y = crop(IMAGES, seed=9)
    more = {"constant_values": 17} if mode == "constant" else {}
    for i, image in enumerate(IMAGES):
        padded = np.pad(image, ((0, 0), (6, 6), (3, 3)), mode=mode, **more)
        words = Words(9, 0, i)
        top, left = words.below(45 - 30 + 1), words.below(35 - 25 + 1)
        assert (y[i] == padded[:, top : top + 30, left : left + 25]).all()


def test_crop_after_a_flip_and_a_crop():
    steps = [augment.RandomHorizontalFlip(1.0), augment.CenterCrop((20, 10)), augment.Pad(2)]
    expected = np.pad(IMAGES[..., ::-1][:, :, 6:26, 10:20], ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert (augment.Compose(steps)(IMAGES) == expected).all()


def test_lens():
    image = IMAGES[:2, :1]
    for k in (0.3, -0.4):
        y = augment.RandomLensDistortion((k, k))(image, seed=0)
        for i in range(2):
            expected = reference.lens(image[i, 0], k)
            assert np.abs(y[i, 0] - expected).max() <= 0.51


def test_hue():
    for turn in (-0.5, -0.2, 0.1, 0.5):
        jitter = augment.ColorJitter(hue=(turn, turn))
        expected = reference.turn_hue(FLOATS[0].astype(np.float64), turn)
        assert np.abs(jitter(FLOATS[0]) - expected).max() < 2e-6
        assert np.abs(jitter(IMAGES[0]) - 255 * expected).max() <= 0.51


def test_jitter_order():
    jitter = augment.ColorJitter(0.4, 0.5, 0.6, 0.1)
    y = jitter(FLOATS[:12], seed=4)
    single = [
        lambda x, v: augment.ColorJitter(brightness=(v, v))(x),
        lambda x, v: augment.ColorJitter(contrast=(v, v))(x),
        lambda x, v: augment.ColorJitter(saturation=(v, v))(x),
        lambda x, v: augment.ColorJitter(hue=(v, v))(x),
    ]
    orders = set()
    for i in range(12):
        words = Words(4, 0, i)
        words.happens(1.0)
        order = reference.jitter_order(words)
        values = [words.range(*r) for r in ((0.6, 1.4), (0.5, 1.5), (0.4, 1.6), (-0.1, 0.1))]
        x = FLOATS[i]
        for what in order:
            x = single[what](x, values[what])
        assert np.abs(y[i] - x).max() < 1e-5
        orders.add(tuple(order))
    assert len(orders) > 6


def test_noise():
    y = augment.GaussianNoise(0.25, 0.1, clip=False)(FLOATS[:3], seed=11, index=[5, 0, 2])
    for i, sample in enumerate((5, 0, 2)):
        z = reference.normal(Words(11, 0, sample).pixels(FLOATS[0].size)).reshape(FLOATS[0].shape)
        assert np.abs(y[i] - (FLOATS[i] + 0.25 + 0.1 * z)).max() < 3e-6


def test_lighting():
    transform = augment.PCALighting(2.0)
    y = transform(FLOATS[:8], seed=3)
    for i in range(8):
        words = Words(3, 0, i)
        words.happens(1.0)
        made = reference.lighting(FLOATS[i], words, 2.0, transform.eigval, transform.eigvec)
        assert np.abs(y[i] - np.clip(made, 0, 1)).max() < 2e-6


def test_erasing():
    y = augment.RandomErasing(0.7, (0.05, 0.4), (0.3, 3.3), (1, 2, 3))(IMAGES, seed=6)
    for i, image in enumerate(IMAGES):
        words, expected = Words(6, 0, i), image.copy()
        if words.happens(0.7):
            box = reference.random_box(words, (0.05, 0.4), (0.3, 3.3), 33, 29, tall=True)
            if box is not None:
                top, left, height, width = box
                expected[:, top : top + height, left : left + width] = [[[1]], [[2]], [[3]]]
        assert (y[i] == expected).all()


def test_cutout():
    y = augment.Cutout(2, 8)(IMAGES, seed=6)
    for i, image in enumerate(IMAGES):
        words, expected = Words(6, 0, i), image.copy()
        words.happens(1.0)
        for _ in range(2):
            top, left = words.below(33) - 4, words.below(29) - 4
            expected[:, max(0, top) : top + 8, max(0, left) : left + 8] = 0
        assert (y[i] == expected).all()


# ---- statistics: within 6 sigma -----------------------------------------------------------------


def test_statistics_of_draws():
    n = 20_000
    black = np.zeros((n, 1, 2, 2), np.uint8)
    flipped = augment.RandomApply([augment.RandomInvert(1.0)], p=0.3)(black, seed=0)[:, 0, 0, 0] > 0
    assert abs(flipped.mean() - 0.3) < 6 * np.sqrt(0.3 * 0.7 / n)
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8), (n, 1, 1, 40)).copy()
    left = augment.RandomCrop((1, 31))(ramp, seed=0)[:, 0, 0, 0]
    counts = np.bincount(left, minlength=10)
    assert len(counts) == 10
    assert np.abs(counts - n / 10).max() < 6 * np.sqrt(n * 0.1 * 0.9)
    grey = np.full((n, 1, 1, 1), 0.5, np.float32)
    factor = augment.ColorJitter(brightness=0.4)(grey, seed=0).ravel() * 2.0
    assert factor.min() >= 0.6
    assert factor.max() <= 1.4
    assert abs(factor.mean() - 1) < 6 * 0.8 / np.sqrt(12 * n)
    noise = augment.GaussianNoise(0.0, 0.1, clip=False)(grey, seed=0).ravel() - 0.5
    assert abs(noise.mean()) < 6 * 0.1 / np.sqrt(n)
    assert abs(noise.var() / 0.01 - 1) < 6 * np.sqrt(2 / n)


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 2.0, 8.0])
def test_statistics_of_mixup(alpha):
    """Beta(alpha, alpha): mean 1 / 2, variance 1 / (4 (2 alpha + 1)), kurtosis known."""
    n = 8_000
    images = np.tile(np.array([0.0, 1.0], np.float32), n // 2).reshape(n, 1, 1, 1)
    labels = np.tile([0, 1], n // 2)
    _, shares = augment.MixUp(alpha=alpha, num_classes=2)(images, labels, seed=0)
    own = shares[np.arange(n), labels].astype(np.float64)
    variance = 1 / (4 * (2 * alpha + 1))
    fourth = variance**2 * (3 - 6 / (2 * alpha + 3))
    assert abs(own.mean() - 0.5) < 6 * np.sqrt(variance / n)
    assert abs(own.var() - variance) < 6 * np.sqrt((fourth - variance**2) / n)


# ---- mixing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup(alpha):
    labels = np.arange(40) % 7
    x, y = augment.MixUp(alpha=alpha, num_classes=7)(FLOATS, labels, seed=2, epoch=1)
    assert np.abs(y.sum(1) - 1).max() < 1e-6
    for i in range(40):
        words = Words(2, 1, i, 255)
        words.happens(1.0)
        share = reference.beta(words, alpha)
        expected = share * FLOATS[i] + (1 - share) * FLOATS[i - 1]
        assert np.abs(x[i] - expected).max() < 1e-4
        soft = share * np.eye(7)[labels[i]] + (1 - share) * np.eye(7)[labels[i - 1]]
        assert np.abs(y[i] - soft).max() < 1e-4


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_cutmix(dtype):
    """X27: labels are the share of pixels after clipping, not what was drawn."""
    n, labels = 400, np.arange(400)
    ids = np.broadcast_to(np.arange(n)[:, None, None, None] % 251, (n, 1, 32, 32))
    x, y = augment.CutMix(num_classes=n)(ids.astype(dtype), labels, seed=0)
    assert np.abs(y.sum(1) - 1).max() < 1e-6
    drawn = []
    for i in range(n):
        own = (x[i] == ids[i]).mean()
        assert abs(y[i, i] - own) < 1e-6
        assert abs(y[i, i - 1] - (1 - own)) < 1e-6
        words = Words(0, 0, i, 255)
        words.happens(1.0)
        drawn.append(reference.beta(words, 1.0))
        top, left, bottom, right = reference.cutmix_box(words, drawn[-1], 32, 32)
        assert (x[i, 0, top:bottom, left:right] == ids[i - 1, 0, 0, 0]).all()
    clipped = y[np.arange(n), labels].mean()
    assert abs(np.mean(drawn) - 0.499) < 6 * np.sqrt(1 / 12 / n)
    assert abs(clipped - 0.700) < 6 * np.sqrt(1 / 12 / n)


def test_p_of_mixing():
    _, y = augment.CutMix(num_classes=40, p=0.0)(IMAGES, range(40), seed=0)
    assert (y == np.eye(40)).all()


# ---- functions of the user's --------------------------------------------------------------------


def test_functions_in_a_pipeline():
    def shift(image, rng):
        return np.roll(image, rng.integers(8), axis=-1)

    crop, invert = augment.RandomCrop(20), augment.RandomInvert(0.5)
    pipeline = augment.Compose([crop, shift, lambda image: image // 2, invert])
    whole = pipeline(IMAGES, seed=1)
    part = pipeline(IMAGES[5:9], seed=1, index=np.arange(5, 9))
    assert (whole[5:9] == part).all()
    cut = crop(IMAGES, seed=1)
    fits = [
        any(
            (np.roll(c, k, -1) // 2 == w).all() or (255 - np.roll(c, k, -1) // 2 == w).all()
            for k in range(8)
        )
        for c, w in zip(cut, whole, strict=True)
    ]
    assert all(fits)


def test_evaluation_has_no_chance():
    plain = NORMALIZED.evaluation()
    assert [type(t).__name__ for t in plain.transforms] == ["CenterCrop", "ToDtype", "Normalize"]
    assert (plain(IMAGES, seed=0) == plain(IMAGES, seed=1)).all()
