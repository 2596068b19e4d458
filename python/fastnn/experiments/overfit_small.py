"""X15: before a long training, a network should get 20 samples right to the last one.

Plain SGD without regularisation. If this fails, something is broken: the loss, the labels, the
gradients. A network that cannot move (rate 0) stands for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, accuracy, axes_of, digits, steps
from fastnn.experiments.result import Result, at_least, at_most, equal


def run(seed: int, quick: bool) -> Result:
    """Loss and accuracy on 20 digits, and on 10 minibatches of 32."""
    curves: dict[str, list[float]] = {}
    shares = {}
    x, y, _, _ = digits(320, seed)
    for name, rows, lr in (
        ("20 samples", 20, 0.1),
        ("10 minibatches", 320, 0.1),
        ("rate 0", 20, 0.0),
    ):
        fn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
        step = steps(model, fn.optim.SGD(model.parameters(), lr=lr), F.cross_entropy)
        batch = min(rows, 32)
        curves[name] = [
            float(
                np.mean([step(x[i : i + batch], y[i : i + batch]) for i in range(0, rows, batch)])
            )
            for _ in range(200)
        ]
        shares[name] = accuracy(model, x[:rows], y[:rows])
    numbers = [
        equal("20 samples: accuracy", shares["20 samples"], 1, "X15, TRN-3"),
        equal("10 minibatches: accuracy", shares["10 minibatches"], 1, "X15, TRN-3"),
        at_most("20 samples: last loss", curves["20 samples"][-1], 0.05, "0 in the limit"),
        at_least("rate 0: last loss", curves["rate 0"][-1], 2.0, "it stays near log 10"),
    ]
    return Result(numbers, lambda f: _draw(f, curves), (6, 4))


def _draw(figure: Any, curves: dict[str, list[float]]) -> None:
    (axes,) = axes_of(figure, 1, ["Overfitting a few samples"])
    for color, (name, values) in zip(COLORS, curves.items(), strict=False):
        axes.semilogy(range(1, 1 + len(values)), values, color=color, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False)
