"""LR-1: what the learning rate does to the loss: too low crawls, too high explodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits, steps
from fastnn.experiments.result import Result, at_least, at_most

RATES = {1e-3: "very low", 1e-2: "low", 0.1: "fair", 1.0: "good", 30.0: "too high"}


def run(seed: int, quick: bool) -> Result:
    """Losses of a network on the digits, by rate."""
    x, y, _, _ = digits(1000, seed)
    losses = {lr: _losses(lr, x, y, 4 if quick else 20, seed) for lr in RATES}
    last = {lr: float(np.mean(v[-10:])) for lr, v in losses.items()}
    numbers = [
        at_least("0.001: last loss", last[1e-3], 1.0, "LR-1: too low is slow"),
        at_most("0.01 / 0.001", last[1e-2] / last[1e-3], 0.95, "faster"),
        at_most("0.1 / 0.01", last[0.1] / last[1e-2], 0.7, "faster still"),
        at_least("30: largest loss", max(losses[30.0]), 10 * math.log(10), "LR-1: it explodes"),
    ]
    return Result(numbers, lambda f: _draw(f, losses), (6.5, 4))


def _losses(lr: float, x: Any, y: Any, epochs: int, seed: int) -> list[float]:
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    step = steps(model, fn.optim.SGD(model.parameters(), lr=lr), F.cross_entropy)
    losses = []
    for epoch in range(epochs):
        order = fn.random.permutation(len(x), seed, epoch)
        for rows in order.reshape(-1, 50):
            losses.append(step(x[rows], y[rows]))
    return losses


def _draw(figure: Any, losses: dict[float, list[float]]) -> None:
    (axes,) = axes_of(figure, 1, ["SGD on the digits"])
    for color, (lr, values) in zip(COLORS, losses.items(), strict=False):
        smooth = np.convolve(values, np.ones(10) / 10, "valid")
        axes.semilogy(smooth, color=color, label=f"{lr:g}: {RATES[lr]}")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss, mean of 10 steps")
    axes.legend(title="learning rate", frameon=False)
