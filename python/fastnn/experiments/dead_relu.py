"""ACT-4: too large a step kills ReLU units: off for every sample, without a gradient, for ever.

The share of dead units in a network on the digits after 100 steps, by learning rate; leaky units
cannot die.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits, steps
from fastnn.experiments.result import Result, at_least, at_most, equal
from fastnn.inspect import dead_relu_fraction

RATES = (0.01, 0.1, 0.3, 0.6, 0.9)
KINDS = {"ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU}


def run(seed: int, quick: bool) -> Result:
    """Shares of units that are off for all samples."""
    x, y, _, _ = digits(1000, seed)
    rates = (RATES[0], RATES[1], RATES[-1]) if quick else RATES
    dead = {name: {lr: _dead(kind, lr, x, y, seed) for lr in rates} for name, kind in KINDS.items()}
    relu = dead["ReLU"]
    numbers = [
        at_most("ReLU, rate 0.01: dead", relu[0.01], 0.05, "He's start and a small rate"),
        at_most("ReLU, rate 0.1: dead", relu[0.1], 0.06, "a good rate"),
        at_least("ReLU, rate 0.9: dead", relu[0.9], 0.2, "ACT-4: be careful with the rate"),
        equal("leaky ReLU: most dead", max(dead["leaky ReLU"].values()), 0, "exact"),
    ]
    return Result(numbers, lambda f: _draw(f, dead), (6, 4))


def _dead(kind: type[nn.Module], lr: float, x: Any, y: Any, seed: int) -> float:
    fn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 100), kind(), nn.Linear(100, 100), kind(), nn.Linear(100, 10)
    )
    nn.init.auto_(model)
    step = steps(model, fn.optim.SGD(model.parameters(), lr=lr), F.cross_entropy)
    for i in range(100):
        rows = slice(50 * (i % 20), 50 * (i % 20 + 1))
        try:
            step(x[rows], y[rows])
        except ValueError:  # it has exploded: the step was refused, the weights are as before it
            break
    return float(np.mean(list(dead_relu_fraction(model, x).values())))


def _draw(figure: Any, dead: dict[str, dict[float, float]]) -> None:
    (axes,) = axes_of(figure, 1, ["Units that are off for all 1000 samples"])
    for color, (name, shares) in zip(COLORS, dead.items(), strict=False):
        axes.semilogx(
            list(shares), [100 * v for v in shares.values()], "o-", color=color, label=name
        )
    axes.set_xlabel("learning rate")
    axes.set_ylabel("dead units (%)")
    axes.legend(frameon=False)
