"""X43: if all inputs of a unit are positive, its weights' gradients have one sign, per sample.

So a step moves all weights up or all down, and the way to a target between zigzags. A sum over a
minibatch may mix signs; inputs with mean zero do so for each sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, equal, near

INPUTS = 10


def run(seed: int, quick: bool) -> Result:
    """Shares of samples, and of minibatches, whose gradient mixes signs."""
    rng = np.random.default_rng(seed)
    count = 200 if quick else 1000
    positive = rng.uniform(0, 1, (count, INPUTS)).astype(np.float32)
    centred = positive - 0.5
    mixed = {
        "positive": _mixed(positive, 1, rng),
        "centred": _mixed(centred, 1, rng),
        "positive, batches of 10": _mixed(positive, 10, rng),
    }
    expected = 1 - 2 * 0.5**INPUTS
    error = 5 * (expected * (1 - expected) / count) ** 0.5
    numbers = [
        equal("positive: share of mixed signs", mixed["positive"], 0, "X43, ACT-13, exact"),
        near("centred: share", mixed["centred"], expected, "exact, 5 standard errors", abs=error),
        at_least("positive, batches of 10: share", mixed["positive, batches of 10"], 0.05,
                 "ACT-13 E: a batch may mix signs"),
    ]  # fmt: skip
    paths = {name: _path(lift, rng) for name, lift in (("positive", 0.0), ("centred", 0.5))}
    return Result(numbers, lambda f: _draw(f, paths))


def _mixed(x: Any, batch: int, rng: np.random.Generator) -> float:
    """Share of the batches in which the gradients of a sigmoid unit's weights differ in sign."""
    w = fn.tensor(rng.normal(size=(1, INPUTS)), requires_grad=True)
    found = []
    for i in range(0, len(x), batch):
        w.grad = None
        y = F.linear(x[i : i + batch], w, activation="sigmoid")
        y.backward(rng.normal(size=y.shape).astype(np.float32))
        signs = np.sign(np.asarray(w.grad))
        found.append(bool(signs.min() != signs.max()))
    return float(np.mean(found))


def _path(lift: float, rng: np.random.Generator) -> Any:
    """Two weights of a linear unit on their way from (0, 0) to (1, -1), one sample a step."""
    w, path = fn.tensor([[0.0, 0.0]], requires_grad=True), [(0.0, 0.0)]
    optimizer = fn.optim.SGD([w], lr=0.5)
    for _ in range(60):
        x = (rng.uniform(0, 1, (1, 2)) - lift).astype(np.float32)
        x *= 1 / np.linalg.norm(x)
        optimizer.zero_grad()
        F.mse_loss(F.linear(x, w), x @ np.array([[1], [-1]], np.float32)).backward()
        optimizer.step()
        path.append(tuple(np.asarray(w.detach())[0]))
    return np.array(path)


def _draw(figure: Any, paths: dict[str, Any]) -> None:
    titles = [f"{name} inputs: the way to (1, -1)" for name in paths]
    for axes, color, path in zip(axes_of(figure, 2, titles), COLORS, paths.values(), strict=False):
        axes.plot(path[:, 0], path[:, 1], ".-", color=color, linewidth=1)
        axes.plot(1, -1, "*", color="#222222", markersize=12)
        axes.set_xlabel("first weight")
        axes.set_xlim(-0.4, 1.3)
        axes.set_ylim(-1.6, 0.4)
    figure.axes[0].set_ylabel("second weight")
