"""OPT-17: small batches end in flatter minima; slices through the loss show it.

The same network, once with batches of 16 and once with all samples at a time, both until the loss
is 0.01. Around each end the loss is drawn along random directions, every unit's part scaled to
the length of its weights (filter normalisation), so that scale alone cannot make a minimum look
flat; and the largest curvature is that of the Hessian, by power iteration on gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits, steps
from fastnn.experiments.result import Result, at_least, at_most

Weights = list[np.ndarray[Any, Any]]
REACH = np.linspace(-1, 1, 21)
LOSS = 0.01


def run(seed: int, quick: bool) -> Result:
    """Slices and the largest curvature at both ends."""
    x, y, _, _ = digits(500, seed)
    slices, planes, sharpness, last = {}, {}, {}, {}
    for name, batch in (("batch 16", 16), ("batch 500", 500)):
        model = _trained(x, y, batch, seed)
        at = Landscape(model, x, y)
        rng = np.random.default_rng(seed)
        first, second = at.direction(rng), at.direction(rng)
        slices[name] = np.mean(
            [[at.loss(at.direction(rng), t) for t in REACH] for _ in range(3 if quick else 10)],
            axis=0,
        )
        if not quick:
            planes[name] = [
                [
                    at.loss([s * a + t * b for a, b in zip(first, second, strict=True)])
                    for s in REACH
                ]
                for t in REACH
            ]
        last[name] = at.loss(first, 0.0)
        sharpness[name] = at.curvature(rng, 10 if quick else 30)
    ratio = sharpness["batch 500"] / sharpness["batch 16"]
    rise = [slices[n][[5, 15]].mean() - last[n] for n in slices]
    numbers = [
        at_most("batch 16: loss at the end", last["batch 16"], 1.5 * LOSS, "both are as far"),
        at_most("batch 500: loss at the end", last["batch 500"], 1.5 * LOSS, "both are as far"),
        at_least(
            "curvature, batch 500 / batch 16", ratio, 1.2, "OPT-17: small batches are flatter"
        ),
        at_least("rise half way out, batch 500 / 16", rise[1] / rise[0], 1.0, "OPT-17"),
    ]
    return Result(numbers, lambda f: _draw(f, slices, planes), (12, 3.6))


class Landscape:
    """The loss around the weights of a model."""

    def __init__(self, model: nn.Module, x: Any, y: Any) -> None:
        self.model, self.x, self.y = model, x, y
        self.parameters = list(model.parameters())
        self.center: Weights = [np.array(p.detach()) for p in self.parameters]

    def direction(self, rng: np.random.Generator) -> Weights:
        """A random direction, each unit as long as its weights."""
        drawn = []
        for w in self.center:
            d = rng.normal(size=w.shape)
            if w.ndim == 2:
                lengths = np.linalg.norm(w, axis=1, keepdims=True)
                drawn.append(d * lengths / np.linalg.norm(d, axis=1, keepdims=True))
            else:
                drawn.append(d * 0)  # biases stay
        return drawn

    def loss(self, direction: Weights, t: float = 1.0) -> float:
        """At the centre plus t times a direction."""
        self._move(direction, t)
        with fn.no_grad():
            value = F.cross_entropy(self.model(self.x), self.y).item()
        self._move(direction, 0.0)
        return value

    def gradient(self, direction: Weights, t: float) -> Weights:
        """Of the loss there."""
        self._move(direction, t)
        for p in self.parameters:
            p.grad = None
        F.cross_entropy(self.model(self.x), self.y).backward()
        self._move(direction, 0.0)
        return [np.array(p.grad, np.float64) for p in self.parameters]

    def curvature(self, rng: np.random.Generator, iterations: int) -> float:
        """The largest eigenvalue of the Hessian: power iteration on differences of gradients."""
        v: list[Any] = [rng.normal(size=w.shape) for w in self.center]
        value, h = 0.0, 1e-2
        for _ in range(iterations):
            norm = float(np.sqrt(sum(float((a**2).sum()) for a in v)))
            v = [a / norm for a in v]
            up, down = self.gradient(v, h), self.gradient(v, -h)
            product = [(a - b) / (2 * h) for a, b in zip(up, down, strict=True)]
            value = float(sum((a * b).sum() for a, b in zip(v, product, strict=True)))
            v = product
        return value

    def _move(self, direction: Weights, t: float) -> None:
        for p, w, d in zip(self.parameters, self.center, direction, strict=True):
            p.detach().copy_((w + t * d).astype(np.float32))


def _trained(x: Any, y: Any, batch: int, seed: int) -> nn.Module:
    """SGD at one rate until the loss of an epoch is small enough."""
    fn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)
    )
    step = steps(model, fn.optim.SGD(model.parameters(), lr=0.2), F.cross_entropy)
    for epoch in range(3000):
        order = fn.random.permutation(len(x), seed, epoch)
        batches = [order[i : i + batch] for i in range(0, len(x) - batch + 1, batch)]
        if np.mean([step(x[rows], y[rows]) for rows in batches]) < LOSS:
            break
    return model


def _draw(figure: Any, slices: dict[str, Any], planes: dict[str, Any]) -> None:
    names = ["along random directions (mean)", *(f"{n}: a plane" for n in planes)]
    axes = axes_of(figure, len(names), names)
    for color, (name, values) in zip(COLORS, slices.items(), strict=False):
        axes[0].plot(REACH, values, color=color, label=name)
    axes[0].set_xlabel("distance / length of the weights")
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False)
    levels = np.geomspace(0.01, 10, 16)
    for a, values in zip(axes[1:], planes.values(), strict=True):
        lines = a.contour(REACH, REACH, values, levels=levels, cmap="viridis")
        a.clabel(lines, lines.levels[::3], fontsize=7, fmt="%.2g")
        a.grid(False)
