"""A small ResNet on scikit-learn's handwritten digits.

    python examples/resnet_digits.py --epochs 20

He et al. 2016 ("Deep residual learning for image recognition"): blocks of two convolutions whose
input is added to their output, first 16 channels at 8 x 8, then 32 at 4 x 4. The last norm of a
block starts at zero, so that the network starts as a shallow one (Goyal et al. 2017). About
98.4 % of the digits held out are right. Needs scikit-learn, and some seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import nn

Array = np.ndarray[Any, Any]


def resnet(channels: int = 16, classes: int = 10) -> nn.Sequential:
    """Scores of images (n, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.BasicBlock(channels, channels, zero_init=True),
        nn.BasicBlock(channels, 2 * channels, stride=2, zero_init=True),
        nn.BasicBlock(2 * channels, 2 * channels, zero_init=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, classes),
    )


def digits() -> tuple[Array, Array, Array, Array]:
    """Images and labels to train on, and those held out: a quarter."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = (data.images / 16).astype(np.float32)[:, None]
    y = data.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    return x, y, x_test, y_test


def fit(model: nn.Module, x: Array, y: Array, epochs: int, lr: float) -> None:
    """Adam, with a rate that rises and falls once."""
    optimizer = fn.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = fn.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, epochs=epochs, steps_per_epoch=-(-len(x) // 64)
    )
    trainer = fn.Trainer(
        model, nn.CrossEntropyLoss(), optimizer, scheduler=schedule, scheduler_interval="step"
    )
    trainer.fit(x, y, batch_size=64, epochs=epochs, verbose=0)


def report(
    make: Any, arguments: Sequence[str] | None, description: str, lr: float, epochs: int
) -> int:
    """Parse the options, train, print what came of it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--lr", type=float, default=lr, help=f"highest rate (default {lr})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    x, y, x_test, y_test = digits()
    fn.manual_seed(options.seed)
    model = make()
    start = time.perf_counter()
    fit(model, x, y, options.epochs, options.lr)
    seconds = time.perf_counter() - start
    accuracy = (model.predict(x_test).argmax(axis=1) == y_test).mean()
    print(f"parameters {model.num_parameters():,}")
    print(f"accuracy   {accuracy:.2%}")
    print(f"seconds    {seconds:.1f}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a ResNet."""
    return report(resnet, arguments, (__doc__ or "").partition("\n")[0], lr=2e-2, epochs=20)


if __name__ == "__main__":
    raise SystemExit(main())
