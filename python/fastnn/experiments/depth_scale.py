"""X11: weights scaled by alpha scale what N layers put out by alpha^N: 1.5^100 is 4e17."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, near
from fastnn.nn import init

ALPHAS = (0.5, 0.9, 1.0, 1.1, 1.5)
DEPTH = 100


def run(seed: int, quick: bool) -> Result:
    """The length of a vector on its way through 100 orthogonal layers, scaled by alpha."""
    weights = [init.orthogonal_(fn.zeros(20, 20)) for _ in range(DEPTH)]
    start = init.normal_(fn.zeros(1, 20))
    lengths: dict[float, list[float]] = {}
    for alpha in ALPHAS:
        x, norm = start, float(np.linalg.norm(start.numpy()))
        lengths[alpha] = [1.0]
        for w in weights:
            x = fn.F.linear(x, w * alpha)
            lengths[alpha].append(float(np.linalg.norm(np.asarray(x, np.float64))) / norm)
    # Each float32 layer may be off by a few 6e-8; a hundred of them by less than 1e-4.
    numbers = [
        near(
            f"{alpha}^100",
            lengths[alpha][-1],
            alpha**DEPTH,
            "LAY-10, exact; 100 roundings",
            rel=1e-4,
        )
        for alpha in ALPHAS
    ]
    return Result(numbers, lambda f: _draw(f, lengths), (6, 4))


def _draw(figure: Any, lengths: dict[float, list[float]]) -> None:
    (axes,) = axes_of(figure, 1, ["A hundred layers, each scaled by alpha"])
    for color, (alpha, values) in zip(COLORS, lengths.items(), strict=False):
        axes.semilogy(values, color=color, label=f"alpha = {alpha}")
    axes.set_xlabel("layers")
    axes.set_ylabel("length of the signal / at the start")
    axes.legend(frameon=False)
