"""X44: units that start equal stay equal: a layer of constant weights has rank 1 for ever."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import axes_of, steps
from fastnn.experiments.result import Result, at_least, equal
from fastnn.inspect import singular_values
from fastnn.nn import init


def run(seed: int, quick: bool) -> Result:
    """A layer's weights after 100 steps, from a constant and from random numbers."""
    weights, ranks = {}, {}
    for name in ("constant 0.3", "random"):
        fn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        if name == "constant 0.3":
            for p in model.parameters():
                init.constant_(p.detach(), 0.3)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, 4)).astype(np.float32)
        y = np.sin(2 * x[:, :1]) * x[:, 1:2]
        step = steps(model, fn.optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
        for _ in range(100):
            step(x, y)
        weights[name] = np.array(model[0].weight.detach())  # type: ignore[attr-defined]
        ranks[name] = singular_values(model).stable_rank("0.weight")
    w = weights["constant 0.3"]
    numbers = [
        equal("constant: largest difference of units", np.abs(w - w[0]).max(), 0, "X44, exact"),
        at_least("constant: how far weights moved", np.abs(w - 0.3).max(), 0.01, "it does learn"),
        at_least("random: stable rank", ranks["random"], 1.1, "X44"),
    ]
    return Result(numbers, lambda f: _draw(f, weights), (7, 3.6))


def _draw(figure: Any, weights: dict[str, Any]) -> None:
    axes = axes_of(figure, 2, [f"{name}, after 100 steps" for name in weights])
    for a, w in zip(axes, weights.values(), strict=True):
        picture = a.imshow(w, cmap="RdBu_r", vmin=-1, vmax=1)
        a.grid(False)
        a.set_xlabel("input")
    axes[0].set_ylabel("unit")
    figure.colorbar(picture, ax=axes, label="weight", shrink=0.8)
