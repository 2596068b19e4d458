"""X18: the test error by the dropout rate: least somewhere around 0.5, worse at either end.

A wide network on few, noisy digits (a tenth of the labels is wrong), so that there is something to
regularise. The lecture's figure is lost; what stands is its shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import nn
from fastnn.experiments.common import COLORS, accuracy, axes_of, digits
from fastnn.experiments.result import Result, at_least, between

RATES = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)


def run(seed: int, quick: bool) -> Result:
    """Errors on the test set, the mean of several runs."""
    rates, runs, epochs = (RATES[::3], 2, 40) if quick else (RATES, 5, 60)
    errors = {p: [1 - _trained(p, seed + i, epochs) for i in range(runs)] for p in rates}
    mean = {p: float(np.mean(v)) for p, v in errors.items()}
    best = min(mean, key=mean.__getitem__)
    why = "X18: qualitative; two sd of a mean over runs"
    numbers = [
        between("best rate", best, 0.2, 0.8, "X18: around 0.5"),
        at_least("error at 0 less error at 0.5", mean[0.0] - mean[0.5], 0.01, why),
        at_least("error at 0.9 less error at 0.5", mean[0.9] - mean[0.5], 0.01, why),
    ]
    return Result(numbers, lambda f: _draw(f, errors), (6, 4))


def _trained(p: float, seed: int, epochs: int) -> float:
    """Accuracy on the test set after training on 300 digits, 30 of them with a wrong label."""
    fn.manual_seed(seed)
    x, y, x_test, y_test = digits(300, seed)
    y = y.copy()
    y[:30] = (y[:30] + 1 + np.arange(30) % 9) % 10
    model = nn.Sequential(
        nn.Linear(64, 100), nn.ReLU(), nn.Dropout(p), nn.Linear(100, 100), nn.ReLU(), nn.Dropout(p),
        nn.Linear(100, 10),
    )  # fmt: skip
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), fn.optim.Adam(model.parameters(), lr=2e-3))
    trainer.fit(x, y, batch_size=50, epochs=epochs, verbose=0, seed=seed)
    return accuracy(model, x_test, y_test)


def _draw(figure: Any, errors: dict[float, list[float]]) -> None:
    (axes,) = axes_of(figure, 1, ["300 digits, a tenth of them with a wrong label"])
    for p, values in errors.items():
        axes.plot([p] * len(values), 100 * np.array(values), ".", color="#b0b0b0")
    means = [100 * np.mean(v) for v in errors.values()]
    axes.plot(list(errors), means, "o-", color=COLORS[0], label="mean")
    axes.set_xlabel("probability of dropping a unit")
    axes.set_ylabel("test error (%)")
    axes.legend(frameon=False)
