"""X14: the loss before training tells whether it is right: log C for softmax, C - 1 for hinge.

With weights N(0, 0.002^2) all classes are alike. Regularisation makes the loss larger.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, near
from fastnn.nn import init

CLASSES = (2, 3, 10, 100, 1000)


def run(seed: int, quick: bool) -> Result:
    """Initial losses by the number of classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(500, 32)).astype(np.float32)
    softmax, hinge, penalised = [], [], []
    for c in CLASSES:
        model = nn.Sequential(nn.Linear(32, 50), nn.ReLU(), nn.Linear(50, c))
        for p in model.parameters():
            init.normal_(p.detach(), std=0.002)
        y, scores = rng.integers(0, c, len(x)), model(x).detach()
        softmax.append(F.cross_entropy(scores, y).item())
        hinge.append(F.multiclass_hinge_loss(scores, y).item())
        with fn.no_grad():
            penalised.append(softmax[-1] + F.l2_penalty(list(model.parameters()), 0.1).item())
    numbers = []
    for i, c in enumerate(CLASSES):
        numbers.append(near(f"softmax, {c} classes", softmax[i], math.log(c), "LOSS-7", abs=0.01))
    for i, c in enumerate(CLASSES[:3]):
        numbers.append(near(f"hinge, {c} classes", hinge[i], c - 1, "LOSS-5", abs=0.01))
    rise = min(p - s for p, s in zip(penalised, softmax, strict=True))
    numbers.append(at_least("least rise by an L2 penalty", rise, 1e-4, "LOSS-7: it must rise"))
    return Result(numbers, lambda f: _draw(f, softmax, penalised), (6, 4))


def _draw(figure: Any, softmax: list[float], penalised: list[float]) -> None:
    (axes,) = axes_of(figure, 1, ["The loss before training"])
    c = np.geomspace(2, 1000)
    axes.semilogx(c, np.log(c), color="#888888", label="log C")
    axes.semilogx(CLASSES, softmax, "o", color=COLORS[0], label="cross-entropy")
    axes.semilogx(CLASSES, penalised, "x", color=COLORS[3], label="with an L2 penalty of 0.1")
    axes.set_xticks(CLASSES, [str(c) for c in CLASSES])
    axes.minorticks_off()
    axes.set_xlabel("classes C")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
