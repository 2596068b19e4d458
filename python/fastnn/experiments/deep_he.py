"""X31: networks of 22 and 30 layers from Xavier's and from He's initialisation.

Xavier's weights lose half of the variance in every ReLU layer: 22 layers leave 5e-4 of the signal,
30 layers 3e-5. He's start learning at once. A small version of the paper's figures: ReLU layers of
64 units on the digits, plain SGD with momentum.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits, steps
from fastnn.experiments.result import Result, at_least, at_most
from fastnn.nn import init

BATCH, EPOCHS = 100, 70
DRAWS = {"Xavier": init.lecun_normal_, "He": init.kaiming_normal_}


def run(seed: int, quick: bool) -> Result:
    """Training losses by epoch; fewer would not do, so the quick run is the whole one."""
    x, y, _, _ = digits(1000, seed)
    losses = {
        (depth, name): _losses(depth, name, x, y, seed) for depth in (22, 30) for name in DRAWS
    }
    stalled = losses[30, "Xavier"][49]
    numbers = [
        at_most("30 layers, He: least loss", min(losses[30, "He"]), 0.5, "X31: converges"),
        at_least("30 layers, Xavier: loss, epoch 50", stalled, 2.2, "X31: stalls at log 10"),
        at_most("22 layers, He: least loss", min(losses[22, "He"]), 0.5, "X31: converges"),
        at_least("22 layers: epochs Xavier is later to 1.5",
                 _epoch(losses[22, "Xavier"]) - _epoch(losses[22, "He"]), 3, "X31: He is earlier"),
        at_most("22 layers, Xavier: least loss", min(losses[22, "Xavier"]), 2.1, "X31: late"),
    ]  # fmt: skip
    return Result(numbers, lambda f: _draw(f, losses))


def _losses(depth: int, name: str, x: Any, y: Any, seed: int) -> list[float]:
    fn.manual_seed(seed)
    sizes = [64] * depth + [10]
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for layer in model:
        if isinstance(layer, nn.Linear):
            DRAWS[name](layer.weight)
            assert layer.bias is not None
            init.zeros_(layer.bias.detach())
    step = steps(model, fn.optim.SGD(model.parameters(), lr=0.005, momentum=0.9), F.cross_entropy)
    losses = []
    for epoch in range(EPOCHS):
        order = fn.random.permutation(len(x), seed, epoch)
        batches = [order[i : i + BATCH] for i in range(0, len(x), BATCH)]
        losses.append(float(np.mean([step(x[b], y[b]) for b in batches])))
    return losses


def _epoch(losses: list[float]) -> int:
    """The first epoch with a loss below 1.5, or how many there are."""
    return next((i for i, value in enumerate(losses) if value < 1.5), len(losses))


def _draw(figure: Any, losses: dict[tuple[int, str], list[float]]) -> None:
    axes = axes_of(figure, 2, ["22 layers", "30 layers"])
    for (depth, name), values in losses.items():
        color = COLORS[0] if name == "He" else COLORS[1]
        axes[depth == 30].plot(range(1, 1 + len(values)), values, color=color, label=name)
    for a in axes:
        a.set_ylim(bottom=0)
        a.set_xlabel("epoch")
        a.legend(frameon=False)
    axes[0].set_ylabel("training loss")
