"""OpenCV: images augmented one by one, height x width x channels, by threads of ours or its own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from worker import serve

Array = np.ndarray[Any, Any]
THREADS = int(os.environ["BENCH_THREADS"])


def describe() -> dict[str, Any]:
    return {"version": cv2.__version__, "setting": "threads over images, or in each call"}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if case["kind"] != "augment":
        return {}
    images = list(np.ascontiguousarray(arrays["x0"].transpose(0, 2, 3, 1)))
    rng = np.random.default_rng(0)
    one = {"cifar": _cifar, "imagenet": _imagenet}[case["op"]]
    size = case["params"]["size"]
    out = np.empty((len(images), size, size, 3), np.float32)
    pool = ThreadPoolExecutor(THREADS)
    parts = np.array_split(np.arange(len(images)), THREADS)

    def run(samples: Any) -> None:
        for i in samples:
            one(images[i], size, rng, out[i])

    def alone() -> Array:
        cv2.setNumThreads(THREADS)
        run(range(len(images)))
        return out

    def threads() -> Array:
        cv2.setNumThreads(0)
        list(pool.map(run, parts))
        return out

    return {"its own threads": alone, "a thread for each part": threads}


_SCALE = np.array([1 / (255 * s) for s in (0.25, 0.24, 0.26)], np.float32)
_SHIFT = np.array([-0.49 / 0.25, -0.48 / 0.24, -0.45 / 0.26], np.float32)


def _normalize(image: Array, out: Array) -> None:
    # The mean and std of each channel; two calls on whole images beat splitting the channels.
    cv2.multiply(image, (*map(float, _SCALE), 0.0), dst=out, dtype=cv2.CV_32F)
    cv2.add(out, (*map(float, _SHIFT), 0.0), dst=out)


def _cifar(image: Array, size: int, rng: Any, out: Array) -> None:
    padded = cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT)
    top, left, flip = rng.integers(9), rng.integers(9), rng.integers(2)
    part = padded[top : top + size, left : left + size]
    _normalize(cv2.flip(part, 1) if flip else part, out)


def _imagenet(image: Array, size: int, rng: Any, out: Array) -> None:
    side = int(image.shape[0] * np.sqrt(rng.uniform(0.3, 0.9)))
    top, left = rng.integers(0, image.shape[0] - side, 2)
    part = cv2.resize(image[top : top + side, left : left + side], (size, size))
    part = cv2.flip(part, 1) if rng.integers(2) else part
    part = cv2.convertScaleAbs(part, alpha=rng.uniform(0.6, 1.4))
    contrast = rng.uniform(0.6, 1.4)
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    part = cv2.convertScaleAbs(part, alpha=contrast, beta=(1 - contrast) * cv2.mean(grey)[0])
    saturation = rng.uniform(0.6, 1.4)
    grey = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    part = cv2.addWeighted(part, saturation, grey, 1 - saturation, 0)
    _normalize(part, out)


if __name__ == "__main__":
    serve(variants, describe)
