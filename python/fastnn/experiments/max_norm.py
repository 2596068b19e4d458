"""X46: max-norm keeps each unit's incoming weights within a ball, after every step."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits
from fastnn.experiments.result import Result, at_least, at_most

LIMIT = 1.0


def run(seed: int, quick: bool) -> Result:
    """The largest norm of a unit by step, with and without the constraint."""
    x, y, _, _ = digits(500, seed)
    norms = {on: _norms(x, y, on, 60 if quick else 300, seed) for on in (False, True)}
    numbers = [
        # The projection multiplies float32 weights by a float32 factor.
        at_most("largest norm with it", max(norms[True]), LIMIT * (1 + 3e-7), "X46, REG-6"),
        at_least("largest norm without", max(norms[False]), 1.1, "else it would show nothing"),
    ]
    return Result(numbers, lambda f: _draw(f, norms), (6, 4))


def _norms(x: Any, y: Any, constrained: bool, steps: int, seed: int) -> list[float]:
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10))
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if constrained:
        optimizer.register_step_post_hook(fn.optim.MaxNorm(LIMIT))
    weights = [p for p in model.parameters() if p.ndim == 2]
    largest = []
    for i in range(steps):
        rows = slice(50 * (i % 10), 50 * (i % 10 + 1))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        units = [np.linalg.norm(np.asarray(w.detach(), np.float64), axis=1) for w in weights]
        largest.append(float(np.concatenate(units).max()))
    return largest


def _draw(figure: Any, norms: dict[bool, list[float]]) -> None:
    (axes,) = axes_of(figure, 1, ["The longest weight vector of a unit"])
    for on, values in norms.items():
        label = f"max-norm {LIMIT:g}" if on else "without"
        axes.plot(values, color=COLORS[not on], label=label)
    axes.axhline(LIMIT, color="#888888", linewidth=1, linestyle=":")
    axes.set_xlabel("step")
    axes.set_ylabel("norm")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
