"""X33: double descent: the test error peaks where a model just fits all samples, and falls again.

A layer of random ReLU features, and the least-norm fit of the rest: the capacity is the number of
features. At as many features as samples the fit goes through every noisy point and is wild between
them; with many more, the least norm picks a smooth one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, at_most, between
from fastnn.nn import init

SAMPLES, DIM = 100, 20
WIDTHS = (5, 10, 20, 40, 60, 80, 90, 100, 110, 125, 150, 200, 300, 500, 1000, 2000)


def run(seed: int, quick: bool) -> Result:
    """Training and test error by the number of features, the median of several draws."""
    draws = 3 if quick else 15
    rng = np.random.default_rng(seed)
    errors = np.median([_errors(rng) for _ in range(draws)], axis=0)  # (widths, 2)
    train, test = errors.T
    peak = WIDTHS[int(test.argmax())]
    after = test[WIDTHS.index(2000)]
    before = test[: WIDTHS.index(80)].min()
    numbers = [
        between("features at the peak", peak, 90, 110, "X33: as many as samples, 100"),
        at_least("peak / best before it", test.max() / before, 3, "theory: infinite in the limit"),
        at_least("peak / at 2000 features", test.max() / after, 3, "X33: second descent"),
        at_most(
            "at 2000 features / best before", after / before, 1.1, "REG-10: no worse than small"
        ),
        at_most(
            "training error at 110 features", train[WIDTHS.index(110)], 1e-6, "it interpolates"
        ),
    ]
    return Result(numbers, lambda f: _draw(f, train, test), (6.5, 4))


def _errors(rng: np.random.Generator) -> Any:
    """(training, test) mean squared errors for every width, for a new teacher and new samples."""
    teacher = rng.normal(size=DIM) / DIM**0.5
    x = rng.normal(size=(SAMPLES + 500, DIM)).astype(np.float32)
    y = x @ teacher
    y[:SAMPLES] += rng.normal(0, 0.5, SAMPLES)
    errors = []
    for width in WIDTHS:
        features = np.asarray(
            F.linear(x, init.kaiming_normal_(fn.zeros(width, DIM)), activation="relu"), np.float64
        )
        w = _least_norm(features[:SAMPLES], y[:SAMPLES])
        error = (features @ w - y) ** 2
        errors.append((error[:SAMPLES].mean(), error[SAMPLES:].mean()))
    return errors


def _least_norm(a: Any, y: Any) -> Any:
    """The least squares solution, of least norm where there are many."""
    if a.shape[1] <= a.shape[0]:
        return np.linalg.solve(a.T @ a, a.T @ y)
    return a.T @ np.linalg.solve(a @ a.T, y)


def _draw(figure: Any, train: Any, test: Any) -> None:
    (axes,) = axes_of(figure, 1, ["Random features, 100 noisy samples"])
    axes.loglog(WIDTHS, test, "o-", color=COLORS[1], label="test error")
    shown = np.where(train > 1e-4, train, np.nan)
    axes.loglog(WIDTHS, shown, "s-", color=COLORS[0], label="training error, 0 from 100 on")
    axes.axvline(SAMPLES, color="#888888", linewidth=1, linestyle=":")
    axes.text(SAMPLES * 1.05, axes.get_ylim()[0] * 1.5, "as many as samples", color="#666666")
    axes.set_xlabel("features")
    axes.set_ylabel("mean squared error")
    axes.legend(frameon=False)
