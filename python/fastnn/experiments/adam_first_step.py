"""X20: Adam's first step has the length of the rate; without the correction 3.162 of it.

At the start m = 0.1 g and v = 0.001 g^2: 0.1 / sqrt(0.001) = 3.162, whatever g is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, descend
from fastnn.experiments.result import Result, near

CASES = {"bias corrected": True, "without correction": False}


def run(seed: int, quick: bool) -> Result:
    """Steps under a constant gradient, with and without bias correction."""
    steps = {
        name: -np.diff(descend("Adam", lambda w: [2.0], [0.0], 200, 0.5, bias_correction=on)[:, 0])
        for name, on in CASES.items()
    }
    expected = {"bias corrected": 1.0, "without correction": 0.1 / 0.001**0.5}
    numbers = [
        near(f"first step / rate, {name}", steps[name][0] / 0.5, value, "X20, OPT-10", rel=1e-3)
        for name, value in expected.items()
    ]
    return Result(numbers, lambda f: _draw(f, steps), (6, 4))


def _draw(figure: Any, steps: dict[str, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["Adam under a constant gradient"])
    for color, (name, values) in zip(COLORS, steps.items(), strict=False):
        axes.plot(range(1, 1 + len(values)), values / 0.5, color=color, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("length of the step / rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
