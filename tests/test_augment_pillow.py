"""Geometry and colours against Pillow, whose operations define them: exact or one grey level."""

import math

import numpy as np
import pytest
from fastnn.data import augment
from fastnn.testing.reference.augment import Words
from PIL import Image, ImageEnhance, ImageOps

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (3, 3, 37, 29), dtype=np.uint8)
GREY = RNG.integers(0, 256, (2, 1, 16, 21), dtype=np.uint8)
NARROW = (RNG.integers(90, 160, (2, 3, 20, 20))).astype(np.uint8)  # few grey levels
SMOOTH = np.stack(  # what a nearest neighbour may choose differs little
    [np.add.outer(np.arange(40) * a, np.arange(32) * b) % 251 for a, b in ((3, 2), (1, 5), (4, 1))]
)[None].astype(np.uint8)


def to_pillow(image):
    return Image.fromarray(
        image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    )


def from_pillow(image):
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def compare(transform, oracle, batches=(RGB, GREY, NARROW), most=0, channels_last=False):
    for images in batches:
        given = images.transpose(0, 2, 3, 1) if channels_last else images
        y = transform(given, seed=0, channels_last=channels_last)
        y = y.transpose(0, 3, 1, 2) if channels_last else y
        for i, image in enumerate(images):
            expected = from_pillow(oracle(to_pillow(image)))
            assert y[i].shape == expected.shape
            error = np.abs(y[i].astype(int) - expected.astype(int)).max()
            assert error <= most, f"image {i} of {images.shape}: off by {error}"


def enhance(kind, factor):
    return lambda image: kind(image).enhance(factor)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.35, 1.0, 1.7])
def test_blends(factor, channels_last):
    for name, kind in (
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ):
        jitter = augment.ColorJitter(**{name: (factor, factor)})
        compare(jitter, enhance(kind, factor), most=1, channels_last=channels_last)
    sharper = augment.RandomAdjustSharpness(factor, p=1.0)
    compare(sharper, enhance(ImageEnhance.Sharpness, factor), most=1, channels_last=channels_last)


EXACT = {
    "equalize": (augment.RandomEqualize(1.0), ImageOps.equalize),
    "invert": (augment.RandomInvert(1.0), ImageOps.invert),
    "posterize": (augment.RandomPosterize(3, 1.0), lambda x: ImageOps.posterize(x, 3)),
    "solarize": (augment.RandomSolarize(97, 1.0), lambda x: ImageOps.solarize(x, 97)),
    "mirror": (augment.RandomHorizontalFlip(1.0), ImageOps.mirror),
    "flip": (augment.RandomVerticalFlip(1.0), ImageOps.flip),
    "center": (augment.CenterCrop((12, 15)), lambda x: center(x, 12, 15)),
    "grayscale": (
        augment.RandomGrayscale(1.0),
        lambda x: x.convert("L").convert(x.mode),
    ),
}


def center(image, height, width):
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_exact(name, channels_last):
    compare(*EXACT[name], channels_last=channels_last)


def test_autocontrast():
    flat = np.full((1, 3, 4, 4), 7, np.uint8)
    batches = (RGB, GREY, NARROW, flat)
    compare(augment.RandomAutocontrast(1.0), ImageOps.autocontrast, batches, most=1)


@pytest.mark.parametrize("size", [(37, 29), (74, 50), (18, 14), (9, 40), (5, 3), (1, 1), (100, 7)])
def test_resize(size):
    compare(
        augment.Resize(size),
        lambda x: x.resize(size[::-1], Image.Resampling.BILINEAR),
        most=1,
    )


def test_resized_crop():
    scale, ratio = (0.2, 0.9), (0.5, 2.0)
    from fastnn.testing.reference.augment import random_box

    y = augment.RandomResizedCrop((15, 20), scale, ratio)(RGB, seed=5, epoch=2, index=[4, 1, 9])
    for image, result, sample in zip(RGB, y, (4, 1, 9), strict=True):
        box = random_box(Words(5, 2, sample), scale, ratio, 37, 29, tall=False)
        top, left, height, width = box
        part = to_pillow(image).crop((left, top, left + width, top + height))
        expected = from_pillow(part.resize((20, 15), Image.Resampling.BILINEAR))
        assert np.abs(result.astype(int) - expected).max() <= 1


def test_scale_crop():
    y = augment.RandomScaleCrop(20, 40, 16)(RGB, seed=1)
    for sample, (image, result) in enumerate(zip(RGB, y, strict=True)):
        words = Words(1, 0, sample)
        side = 20 + words.below(21)
        height, width = side * 37 // 29, side
        big = to_pillow(image).resize((width, height), Image.Resampling.BILINEAR)
        top, left = words.below(height - 15), words.below(width - 15)
        expected = from_pillow(big.crop((left, top, left + 16, top + 16)))
        assert np.abs(result.astype(int) - expected).max() <= 1


def inverse_matrix(angle, translate, scale, shear, stretch, centre):
    """Of x' = c + t + R(angle) Shear diag(stretch scale, scale) (x - c), by np.linalg."""
    a, sx, sy = (math.radians(v) for v in (angle, *shear))
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    along_y = np.array([[1, 0], [-math.tan(sy), 1]])
    along_x = np.array([[1, -math.tan(sx)], [0, 1]])
    linear = turn @ along_y @ along_x @ np.diag([scale * stretch, scale])
    inverse = np.linalg.inv(linear)
    centre, translate = np.array(centre), np.array(translate)
    offset = centre - inverse @ (centre + translate)
    return (*inverse[0], offset[0], *inverse[1], offset[1])


CASES = [
    {"degrees": 30},
    {"degrees": -77, "scale": 0.7},
    {"degrees": 12, "shear": (15, 0), "scale": 1.3},
    {"degrees": 5, "shear": (-20, 8), "stretch": 1.4},
    {"degrees": 0, "shear": (0, -33)},
    {"degrees": 200, "center": (3.0, 9.5)},
]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("case", CASES)
def test_affine(case, interpolation):
    angle, scale, stretch = case["degrees"], case.get("scale", 1.0), case.get("stretch", 1.0)
    shear, centre = case.get("shear", (0, 0)), case.get("center")
    transform = augment.RandomAffine(
        (angle, angle), None, (scale, scale), (shear[0], shear[0], shear[1], shear[1]),
        interpolation, 77, centre, (stretch, stretch),
    )  # fmt: skip
    for images in (RGB, GREY) if interpolation == "bilinear" else (SMOOTH,):
        y = transform(images, seed=0)
        height, width = images.shape[2:]
        matrix = inverse_matrix(
            angle, (0, 0), scale, shear, stretch, centre or (width / 2, height / 2)
        )
        near = edge_distance(matrix, height, width, interpolation)
        for image, result in zip(images, y, strict=True):
            picture = to_pillow(image)
            how = Image.Resampling[interpolation.upper()]
            fill = 77 if len(image) == 1 else (77,) * 3
            made = picture.transform(
                picture.size, Image.Transform.AFFINE, matrix, how, fillcolor=fill
            )
            error = np.abs(result.astype(int) - from_pillow(made))
            assert (near > 1e-3).mean() > 0.9
            assert error[:, near > 1e-3].max() <= 1


def edge_distance(matrix, height, width, interpolation):
    """How far the place that a pixel is read at lies from where another choice begins.

    Only the border of the image for bilinear; each border of pixels for nearest, where Pillow
    counts in 16 bits of a fraction.
    """
    a, b, c, d, e, f = matrix
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = a * col + b * row + c, d * col + e * row + f
    if interpolation == "nearest":
        return np.minimum(np.abs(x - np.round(x)), np.abs(y - np.round(y)))
    return np.minimum(
        np.minimum(np.abs(x), np.abs(x - width)), np.minimum(np.abs(y), np.abs(y - height))
    )


@pytest.mark.parametrize("degrees", [90, 180, 270, 0])
def test_right_angles(degrees):
    square = RGB[..., :29, :]
    compare(augment.RandomRotation((degrees, degrees)), lambda x: x.rotate(degrees), (square,))


POLICY = {
    "ShearX": lambda x, m: warp(x, (1, m, 0, 0, 1, 0)),
    "ShearY": lambda x, m: warp(x, (1, 0, 0, m, 1, 0)),
    "TranslateX": lambda x, m: warp(x, (1, 0, -int(m * x.width), 0, 1, 0)),
    "TranslateY": lambda x, m: warp(x, (1, 0, 0, 0, 1, -int(m * x.height))),
    "Rotate": lambda x, m: x.rotate(m),
    "Brightness": lambda x, m: ImageEnhance.Brightness(x).enhance(1 + m),
    "Color": lambda x, m: ImageEnhance.Color(x).enhance(1 + m),
    "Contrast": lambda x, m: ImageEnhance.Contrast(x).enhance(1 + m),
    "Sharpness": lambda x, m: ImageEnhance.Sharpness(x).enhance(1 + m),
    "Posterize": lambda x, m: ImageOps.posterize(x, round(m)),
    "Solarize": lambda x, m: ImageOps.solarize(x, m),
    "AutoContrast": lambda x, m: ImageOps.autocontrast(x),
    "Equalize": lambda x, m: ImageOps.equalize(x),
    "Invert": lambda x, m: ImageOps.invert(x),
    "Identity": lambda x, m: x,
}
NAMES = [name for name in POLICY if name != "Invert"]
ORDER = ["Identity", *(name for name in NAMES if name != "Identity")]


def warp(image, matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def magnitude(name, level):
    """Without sign; level 0 to 1."""
    end = {"Rotate": 30, "TranslateX": 150 / 331, "TranslateY": 150 / 331}
    if name in ("ShearX", "ShearY"):
        return 0.3 * level
    if name in ("Posterize", "Solarize"):
        return 8 - 4 * level if name == "Posterize" else 255 - 255 * level
    return end.get(name, 0.9) * level


def is_signed(name):
    return name not in ("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert", "Identity")


def apply(words, name, image, level):
    """A change with probability 1, as its words say."""
    value = magnitude(name, level)
    if is_signed(name) and words.happens(0.5):
        value = -value
    return POLICY[name](image, value)


def check_like(result, expected):
    """Within a grey level, but for pixels of a nearest neighbour that Pillow rounds to another."""
    error = np.abs(result.astype(int) - expected.astype(int)).max(0)
    assert (error > 2).mean() < 0.01


def test_rand_augment():
    """Each sample's first and second change, found from its words, done by Pillow."""
    images = np.repeat(SMOOTH, 60, 0)
    y = augment.RandAugment(2, 9, 31)(images, seed=3, epoch=1)
    seen = set()
    for sample in range(len(images)):
        picture = to_pillow(images[sample])
        for turn in (0, 29):  # a choice and 14 changes, with their jumps, take 29 places
            name = ORDER[Words(3, 1, sample, turn).below(14)]
            words = Words(3, 1, sample, turn + 1 + 2 * ORDER.index(name))
            words.happens(1.0)
            picture = apply(words, name, picture, 9 / 30)
            seen.add(name)
        check_like(y[sample], from_pillow(picture))
    assert seen == set(NAMES)


PAIRS = {
    "imagenet": [
        ("Posterize", 0.4, 8, "Rotate", 0.6, 9),
        ("Solarize", 0.6, 5, "AutoContrast", 0.6, 0),
    ],
    "cifar10": [("Invert", 0.1, 0, "Contrast", 0.2, 6), ("Rotate", 0.7, 2, "TranslateX", 0.3, 9)],
    "svhn": [("ShearX", 0.9, 4, "Invert", 0.2, 0), ("ShearY", 0.9, 8, "Invert", 0.7, 0)],
}


@pytest.mark.parametrize("policy", PAIRS)
def test_auto_augment(policy):
    """The samples that draw one of the first two pairs of a policy."""
    images = np.repeat(SMOOTH, 150, 0)
    y = augment.AutoAugment(policy)(images, seed=0)
    checked = 0
    for sample in range(len(images)):
        pick = Words(0, 0, sample).below(25)
        if pick > 1:
            continue
        picture = to_pillow(images[sample])
        pair = PAIRS[policy][pick]
        for half in (0, 1):
            name, p, level = pair[3 * half : 3 * half + 3]
            words = Words(0, 0, sample, 1 + 3 * pick + half)  # two changes and a jump
            if words.happens(p):
                picture = apply(words, name, picture, level / 9)
        check_like(y[sample], from_pillow(picture))
        checked += 1
    assert checked > 5


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_policies_have_25_pairs(policy):
    from fastnn.data.augment.policy import _NAMES, _POLICIES

    pairs = [t for t in _POLICIES[policy].replace("\n", ";").split(";") if t.strip()]
    assert len(pairs) == 25
    for text in pairs:
        for change in text.split(","):
            name, p, *level = change.split()
            assert name in _NAMES
            assert 0 <= float(p) <= 1
            needs = name not in ("Equalize", "AutoContrast", "Invert")
            assert len(level) == needs
