"""X24: in an ill-conditioned bowl plain gradient descent zigzags; momentum averages that away."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, descend
from fastnn.experiments.result import Result, at_most, near

RATE, HESSIAN = 0.019, np.array([1.0, 100.0])


def run(seed: int, quick: bool) -> Result:
    """How far both go along the steep axis in 100 steps."""
    paths = {
        name: descend("SGD", lambda w: HESSIAN * w, [10.0, 1.0], 100, RATE, momentum=momentum)
        for name, momentum in (("SGD", 0.0), ("momentum 0.5", 0.5))
    }
    way = {name: np.abs(np.diff(path[:, 1])).sum() for name, path in paths.items()}
    # Each step multiplies the steep coordinate by 1 - 1.9 = -0.9.
    exact = 1.9 * (1 - 0.9**100) / 0.1
    ratio = way["momentum 0.5"] / way["SGD"]
    numbers = [
        near("SGD: way along the steep axis", way["SGD"], exact, "exact geometric sum", rel=1e-4),
        at_most("momentum: its way / SGD's", ratio, 0.5, "X24: lower; half is the test's"),
    ]
    return Result(numbers, lambda f: _draw(f, paths))


def _draw(figure: Any, paths: dict[str, Any]) -> None:
    axes = axes_of(figure, 2, list(paths))
    grid = np.meshgrid(np.linspace(0, 10.5, 121), np.linspace(-1.1, 1.1, 121))
    value = (HESSIAN[0] * grid[0] ** 2 + HESSIAN[1] * grid[1] ** 2) / 2
    for a, color, path in zip(axes, COLORS, paths.values(), strict=False):
        a.contour(*grid, value, 20, colors="#c8c8c8", linewidths=0.7)
        a.plot(path[:, 0], path[:, 1], ".-", color=color, linewidth=1)
        a.grid(False)
        a.set_xlabel("flat axis, curvature 1")
    axes[0].set_ylabel("steep axis, curvature 100")
