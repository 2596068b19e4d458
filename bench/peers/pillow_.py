"""Pillow: images augmented one by one, then NumPy's normalisation, by threads over the images."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageOps
from worker import serve

THREADS = int(os.environ["BENCH_THREADS"])
_SCALE = np.array([1 / (255 * s) for s in (0.25, 0.24, 0.26)], np.float32)
_SHIFT = np.array([-0.49 / 0.25, -0.48 / 0.24, -0.45 / 0.26], np.float32)


def describe() -> dict[str, Any]:
    return {"version": PIL.__version__, "setting": "one thread, or one for each part"}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if case["kind"] != "augment":
        return {}
    images = [Image.fromarray(x) for x in arrays["x0"].transpose(0, 2, 3, 1)]
    rng = np.random.default_rng(0)
    one = {"cifar": _cifar, "imagenet": _imagenet}[case["op"]]
    size = case["params"]["size"]
    out = np.empty((len(images), size, size, 3), np.float32)
    pool = ThreadPoolExecutor(THREADS)
    parts = np.array_split(np.arange(len(images)), THREADS)

    def run(samples: Any) -> None:
        for i in samples:
            np.multiply(one(images[i], size, rng), _SCALE, out=out[i])
            np.add(out[i], _SHIFT, out=out[i])

    return {
        "one thread": lambda: run(range(len(images))),
        "a thread for each part": lambda: list(pool.map(run, parts)),
    }


def _cifar(image: Any, size: int, rng: Any) -> Any:
    top, left = rng.integers(-4, 5, 2)
    part = image.crop((left, top, left + size, top + size))  # black outside
    return ImageOps.mirror(part) if rng.integers(2) else part


def _imagenet(image: Any, size: int, rng: Any) -> Any:
    side = int(image.height * np.sqrt(rng.uniform(0.3, 0.9)))
    top, left = rng.integers(0, image.height - side, 2)
    box = (left, top, left + side, top + side)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    part = ImageOps.mirror(part) if rng.integers(2) else part
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        part = kind(part).enhance(rng.uniform(0.6, 1.4))
    return part


if __name__ == "__main__":
    serve(variants, describe)
