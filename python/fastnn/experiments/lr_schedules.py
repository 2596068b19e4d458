"""X34: the learning-rate schedules of the lectures, and where they start and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastnn as fn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, near
from fastnn.optim import Optimizer
from fastnn.optim import lr_scheduler as s
from fastnn.optim.lr_scheduler import LRScheduler

# The schedule, for a base rate of 1 and 100 steps, and {step: rate}.
CASES: dict[str, tuple[Callable[[Optimizer], LRScheduler], dict[int, float]]] = {
    "step decay": (
        lambda o: s.MultiStepLR(o, [30, 60, 90], 0.1),
        {29: 1, 30: 0.1, 60: 0.01, 90: 0.001},
    ),
    "cosine": (lambda o: s.CosineAnnealingLR(o, 100), {0: 1, 50: 0.5, 100: 0}),
    "warm restarts": (
        lambda o: s.CosineAnnealingWarmRestarts(o, 15, 2),
        {0: 1, 15: 1, 30: 0.5, 45: 1, 75: 0.5},
    ),
    "linear": (lambda o: s.LinearLR(o, 1, 0, 100), {0: 1, 50: 0.5, 100: 0}),
    "inverse sqrt": (s.InverseSqrtLR, {0: 1, 3: 0.5, 99: 0.1}),
    "1 / t": (s.InverseTimeLR, {0: 1, 1: 0.5, 99: 0.01}),
    "exponential": (lambda o: s.ExponentialLR(o, 0.96), {0: 1, 100: 0.96**100}),
    "gradual warm-up": (
        lambda o: s.WarmupLR(o, 20, then=s.LinearLR(o, 1, 0, 80)),
        {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0},
    ),
    "constant warm-up": (
        lambda o: s.WarmupLR(o, 20, "constant", then=s.CosineAnnealingLR(o, 80)),
        {0: 0.1, 19: 0.1, 20: 1, 100: 0},
    ),
    "cyclic": (lambda o: s.CyclicLR(o, 0.1, 1, 20), {0: 0.1, 20: 1, 40: 0.1, 60: 1}),
    "triangular2": (
        lambda o: s.CyclicLR(o, 0, 1, 16, mode="triangular2"),
        {0: 0, 16: 1, 48: 0.5, 80: 0.25},
    ),
    "one cycle": (lambda o: s.OneCycleLR(o, 1, 100), {0: 0.04, 29: 1, 99: 4e-6}),
}


def run(seed: int, quick: bool) -> Result:
    """The rates of 101 steps of each."""
    curves: dict[str, list[float]] = {}
    numbers = []
    for name, (make, points) in CASES.items():
        optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        schedule = make(optimizer)
        last = 99 if name == "one cycle" else 100
        curves[name] = [schedule.at(t)[0] for t in range(last + 1)]
        for t, rate in points.items():
            numbers.append(
                near(f"{name}: step {t}", curves[name][t], rate, "X34, formula", abs=1e-9)
            )
    return Result(numbers, lambda f: _draw(f, curves), (11, 6))


def _draw(figure: Any, curves: dict[str, list[float]]) -> None:
    for axes, rates in zip(axes_of(figure, 4, list(curves), 3), curves.values(), strict=True):
        axes.plot(rates, color=COLORS[0])
        axes.set_ylim(-0.05, 1.1)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("rate / base rate", fontsize=10)
