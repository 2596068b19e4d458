"""X6: two printed versions of He's initialisation that are wrong, beside the right one.

One lecture's code divides by sqrt(2 / fan_in): weights too large by a factor fan_in / 2. Another's
variance is 1 / (2 n): a quarter of the right one, and each layer halves the signal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, forward_table
from fastnn.experiments.result import Result, near
from fastnn.nn import init

WIDTH = 500
CASES = {
    "randn / sqrt(2 / n)": lambda w: init.normal_(w, std=(WIDTH / 2) ** 0.5),
    "std 1 / sqrt(2 n)": lambda w: init.normal_(w, std=(2 * WIDTH) ** -0.5),
    "He: std sqrt(2 / n)": init.kaiming_normal_,
}


def run(seed: int, quick: bool) -> Result:
    """Standard deviations of ten ReLU layers for each version."""
    repeats = 2 if quick else 8  # the spread of a draw at layer 10 is 12 %
    stds: dict[str, Any] = {}
    for name, draw in CASES.items():
        runs = [forward_table(draw, "relu", 10, WIDTH, 500) for _ in range(repeats)]
        stds[name] = np.mean(runs, axis=0)[:, 1]
    large, small, right = stds.values()
    why = "INIT-5; 12 % of spread at layer 10"
    numbers = [
        near("divided: std of layer 1", large[0], 206, "INIT-5", rel=0.02),
        near("divided: std of layer 10", large[-1], 7.9e23, why, rel=0.25),
        near("divided: factor per layer", (large[-1] / large[0]) ** (1 / 9), 250, "X6", rel=0.03),
        near("quarter: std of layer 1", small[0], 0.412, "INIT-5", rel=0.02),
        near("quarter: std of layer 10", small[-1], 8.0e-4, why, rel=0.25),
        near("quarter: factor per layer", (small[-1] / small[0]) ** (1 / 9), 0.5, "X6", rel=0.03),
        near("He: std of layer 10", right[-1], 0.82, why, rel=0.25),
    ]
    return Result(numbers, lambda f: _draw(f, stds), (6, 4))


def _draw(figure: Any, stds: dict[str, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["Ten ReLU layers of 500 units"])
    for color, (name, values) in zip(COLORS[1:4], stds.items(), strict=True):
        axes.semilogy(range(1, 11), values, "o-", color=color, label=name)
    axes.set_xlabel("layer")
    axes.set_ylabel("standard deviation of the outputs")
    axes.legend(frameon=False)
