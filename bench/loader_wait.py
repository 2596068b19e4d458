"""How long a LeNet waits for its images: the share of its time, at each number of threads; and what
a loader takes for a batch so small that nothing but its own work is left: 32 rows of 64 floats.

    python bench/loader_wait.py

Batches of 128 images of 3 x 32 x 32 bytes are cropped out of a padding of 4, flipped and normalised
by ``fn.data.Loader`` while the step before runs. The bar of the project is 2 %.
"""

from __future__ import annotations

import os
import time

import fastnn as fn
import numpy as np
from fastnn import F, nn
from fastnn.data import augment

BATCH, IMAGES, EPOCHS = 128, 4096, 3


def lenet() -> nn.Module:
    """LeNet-5 for three channels."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip


def share_waited(threads: int) -> tuple[float, float]:
    """Seconds of a step, and the share of them that it waited."""
    fn.set_num_threads(threads)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (IMAGES, 3, 32, 32), np.uint8), rng.integers(0, 10, IMAGES)
    pipeline = augment.Compose(
        [
            augment.RandomCrop(32, padding=4),
            augment.RandomHorizontalFlip(),
            augment.ToDtype(scale=True),
            augment.Normalize([0.49, 0.48, 0.45], [0.25, 0.24, 0.26]),
        ]
    )
    loader = fn.data.Loader(x, y, BATCH, augment=pipeline)
    model = lenet()
    optimizer = fn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @fn.capture
    def step(images: fn.Tensor, labels: fn.Tensor) -> fn.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    for images, labels in loader:  # records the step
        step(images, labels)
    loader.waited, start = 0.0, time.perf_counter()
    for _ in range(EPOCHS):
        for images, labels in loader:
            step(images, labels)
    seconds = time.perf_counter() - start
    return seconds / (EPOCHS * len(loader)), loader.waited / seconds


def tiny_batch(threads: int) -> float:
    """Seconds for a batch, at best."""
    fn.set_num_threads(threads)
    x = np.zeros((32 * 400, 64), np.float32)
    loader = fn.data.Loader(x, np.zeros(len(x), np.int64), 32)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        batches = sum(1 for _ in loader)
        times.append((time.perf_counter() - start) / batches)
    return min(times)


if __name__ == "__main__":
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):
        seconds, share = share_waited(threads)
        print(
            f"{threads} threads: {seconds * 1e3:.2f} ms a step, {share:.2%} of it waiting; a tiny "
            f"batch {tiny_batch(threads) * 1e6:.1f} us"
        )
