"""Small data files of every kind, folders of images, and how a damaged one is refused."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest
from fastnn import data
from PIL import Image

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array, dtype="u1"):
    """The bytes of an IDX file."""
    array = np.asarray(array)
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, CODES[dtype], array.ndim]) + sizes + array.astype(dtype).tobytes()


def write(path, content):
    """Write bytes, packed if the name says so."""
    with (gzip.open if str(path).endswith(".gz") else open)(path, "wb") as file:
        file.write(content)
    return str(path)


def cifar(n, labels, seed=0):
    """Records of CIFAR: labels, then pixels."""
    rng = np.random.default_rng(seed)
    y = np.stack([rng.integers(0, k, n) for k in labels], 1).astype(np.uint8)
    x = rng.integers(0, 256, (n, 3072)).astype(np.uint8)
    return y, x, np.concatenate([y, x], 1).tobytes()


def folder(path, classes=("cat", "dog"), images=2, size=(5, 4), mode="RGB", seed=0):
    """A folder of images by class; size is (width, height)."""
    rng = np.random.default_rng(seed)
    for name in classes:
        os.makedirs(path / name)
        for i in range(images):
            shape = (size[1], size[0], 3)[: 3 if mode == "RGB" else 2]
            pixels = rng.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return path


def refuses(path, message, label=None):
    """Loading raises exactly this, and takes no memory that the file does not have."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=r".") as error:
        data.load(str(path), label)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value) == message.format(path=path)
    assert peak < 16 << 20
