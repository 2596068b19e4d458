"""LAY-14: the perceptron, an online algorithm: learn from mistakes, stop when there are none.

On classes with a margin it makes at most (R / margin)² mistakes (Novikoff 1962), in any order, R
the length of the longest sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, at_most, equal


def run(seed: int, quick: bool) -> Result:
    """Passes over 100 separable samples until there are no more errors."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(angle), np.sin(angle), 0.2])
    normal /= np.linalg.norm(normal)
    x = np.concatenate([rng.uniform(-1, 1, (2000, 2)), np.ones((2000, 1))], axis=1)
    x = x[np.abs(x @ normal) > 0.01][:100].astype(np.float32)
    y = np.sign(x @ normal).astype(np.float32)

    w = fn.tensor(np.zeros((1, 3)), requires_grad=True)
    optimizer = fn.optim.SGD([w], lr=1.0)
    errors: list[int] = []
    while not errors or (errors[-1] and len(errors) < 500):
        errors.append(sum(_learn(w, optimizer, x[i : i + 1], y[i]) for i in range(len(x))))
    margin = float((y * (x @ normal)).min())
    bound = float((np.linalg.norm(x, axis=1).max() / margin) ** 2)
    scores = np.asarray(F.linear(x, w).detach())[:, 0]
    numbers = [
        equal("errors in the last pass", errors[-1], 0, "LAY-14: then it is over"),
        equal("samples on the wrong side", (scores * y <= 0).sum(), 0, "the same, by scores"),
        at_most("mistakes / (R / margin)²", sum(errors) / bound, 1, "Novikoff 1962"),
        at_least("passes", len(errors), 2, "it had to learn"),
    ]
    line = np.array(w.detach())[0]
    return Result(numbers, lambda f: _draw(f, x, y, line, errors))


def _learn(w: fn.Tensor, optimizer: fn.optim.SGD, x: Any, y: float) -> bool:
    """One sample: w += y x if it is on the wrong side, or on the line. Whether it was."""
    score = F.linear(x, w)
    if score.item() * y > 0:
        return False
    optimizer.zero_grad()
    score.backward(np.array([[-y]], np.float32))  # of the loss -y score
    optimizer.step()
    return True


def _draw(figure: Any, x: Any, y: Any, w: Any, errors: list[int]) -> None:
    left, right = axes_of(figure, 2, ["what it found", "mistakes in each pass"])
    left.scatter(x[:, 0], x[:, 1], c=np.where(y > 0, COLORS[0], COLORS[1]), s=10)
    ends = np.linspace(-3, 3, 2)
    if abs(w[1]) > abs(w[0]):
        left.plot(ends, -(w[0] * ends + w[2]) / w[1], color="#222222")
    else:
        left.plot(-(w[1] * ends + w[2]) / w[0], ends, color="#222222")
    left.locator_params(nbins=5)
    right.locator_params(axis="x", integer=True)
    left.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    right.plot(range(1, 1 + len(errors)), errors, "o-", color=COLORS[0])
    right.set_xlabel("pass over 100 samples")
    right.set_ylabel("mistakes")
