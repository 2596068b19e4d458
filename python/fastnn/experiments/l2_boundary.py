"""X19: an L2 penalty of 0.001, 0.01 and 0.1 smooths the boundary between two classes.

A tanh network of 2-20-20-2 on noisy moons, trained until it is done. How wild a boundary is: its
length, counted in cells of a grid where the class changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import accuracy, axes_of, steps, two_moons
from fastnn.experiments.result import Number, Result, at_least, at_most

LAMBDAS = (0.0, 0.001, 0.01, 0.1)
SIDE = np.linspace(-2.2, 3.2, 161), np.linspace(-1.9, 2.4, 161)


def run(seed: int, quick: bool) -> Result:
    """Boundaries, and what they cost in accuracy."""
    x, y = two_moons(120, 0.35, np.random.default_rng(seed))
    grid = np.stack(np.meshgrid(*SIDE), axis=-1).astype(np.float32)
    classes, lengths, norms, shares = {}, {}, {}, {}
    for lam in LAMBDAS:
        model = _trained(x, y, lam, 1500 if quick else 4000, seed)
        margin = model.predict(grid.reshape(-1, 2)) @ [-1, 1]
        classes[lam] = c = margin.reshape(161, 161) > 0
        lengths[lam] = int((c[1:] != c[:-1]).sum() + (c[:, 1:] != c[:, :-1]).sum())
        norms[lam] = sum(float((np.asarray(p.detach()) ** 2).sum()) for p in model.parameters())
        shares[lam] = accuracy(model, x, y)
    why = "X19: smoother with larger lambda"
    numbers: list[Number] = []
    for small, large in ((0.0, 0.001), (0.001, 0.01), (0.01, 0.1)):
        ratio = norms[large] / norms[small]
        numbers.append(at_most(f"|w|², {large} / {small}", ratio, 0.9, "REG-2: smaller weights"))
    numbers += [
        at_most("length, 0.01 / 0", lengths[0.01] / lengths[0.0], 0.9, why),
        at_most("length, 0.1 / 0.001", lengths[0.1] / lengths[0.001], 0.9, why),
        at_least("training accuracy, 0 less 0.1", shares[0.0] - shares[0.1], 0.03, "it fits noise"),
    ]
    return Result(numbers, lambda f: _draw(f, x, y, classes, shares), (12, 3.2))


def _trained(x: Any, y: Any, lam: float, count: int, seed: int) -> nn.Module:
    fn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 2)
    )
    weights = [p for p in model.parameters() if p.ndim == 2]

    def loss(scores: Any, labels: Any) -> Any:
        value = F.cross_entropy(scores, labels)
        return value + F.l2_penalty(weights, lam, half=True) if lam else value

    step = steps(model, fn.optim.Adam(model.parameters(), lr=0.01), loss)
    for _ in range(count):
        step(x, y)
    return model


def _draw(figure: Any, x: Any, y: Any, classes: dict[float, Any], shares: dict[float, Any]) -> None:
    titles = [f"lambda = {lam}: {100 * shares[lam]:.0f} % right" for lam in LAMBDAS]
    for axes, c in zip(axes_of(figure, 4, titles), classes.values(), strict=True):
        axes.contourf(*SIDE, c, levels=[-0.5, 0.5, 1.5], colors=["#dbe4f3", "#f8e3d6"])
        axes.contour(*SIDE, c, levels=[0.5], colors="#555555", linewidths=1)
        axes.scatter(*x.T, c=np.array(["#4c72b0", "#dd8452"])[y], s=9)
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
