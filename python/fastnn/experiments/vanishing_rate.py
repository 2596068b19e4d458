"""X23: Adagrad's steps shrink for ever, as 1 / sqrt(t); RMSProp forgets, and goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, descend
from fastnn.experiments.result import Result, at_most, near

LR, STEPS = 0.1, 1000


def run(seed: int, quick: bool) -> Result:
    """Steps of both under a constant gradient."""
    steps = {
        name: -np.diff(descend(kind, lambda w: [1.0], [0.0], STEPS, LR)[:, 0])
        for name, kind in (("Adagrad", "Adagrad"), ("RMSProp", "RMSprop"))
    }
    adagrad, rmsprop = steps["Adagrad"], steps["RMSProp"]
    numbers = [
        # Differences of float32 positions near 6: steps are seen to 5e-7.
        at_most("Adagrad: largest rise of a step", np.diff(adagrad).max(), 1e-6, "X23: monotone"),
        near(
            "Adagrad: step 1000 / step 1", adagrad[-1] / adagrad[0], STEPS**-0.5, "exact", rel=1e-3
        ),
        near("RMSProp: step 1000 / rate", rmsprop[-1] / LR, 1, "exact, 0.99^500", rel=5e-3),
    ]
    return Result(numbers, lambda f: _draw(f, steps), (6, 4))


def _draw(figure: Any, steps: dict[str, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["The gradient is 1 in every step"])
    t = np.arange(1, STEPS + 1)
    for color, (name, values) in zip(COLORS, steps.items(), strict=False):
        axes.loglog(t, values, color=color, label=name)
    axes.loglog(t, LR / np.sqrt(t), ":", color="#222222", linewidth=2.5, label="rate / sqrt(t)")
    axes.set_xlabel("step")
    axes.set_ylabel("length of the step")
    axes.legend(frameon=False)
