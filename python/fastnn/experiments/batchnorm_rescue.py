"""X42: batch normalisation makes a bad initialisation trainable.

The ten layers of 0.01 randn that end in zeros, with a BatchNorm before each activation: outputs
have one and the same spread in every layer, and the network learns.
"""

from __future__ import annotations

from typing import Any

import fastnn as fn
from fastnn import F, nn
from fastnn.experiments.common import COLORS, axes_of, digits, steps
from fastnn.experiments.result import Number, Result, at_least, at_most, near
from fastnn.inspect import ActivationStats, activation_stats
from fastnn.nn import init

# layer: (mean, std) after the activation, from the specification
EXPECTED: dict[str, dict[int, tuple[float, float]]] = {
    "tanh": {1: (0, 0.628), 10: (0, 0.630)},
    "ReLU": {1: (0.399, 0.583), 10: (0.395, 0.587)},
}
KINDS = {"tanh": nn.Tanh, "ReLU": nn.ReLU}


def run(seed: int, quick: bool) -> Result:
    """Statistics of ten layers of 500, and a training of ten layers of 100."""
    x = init.normal_(fn.zeros(1000, 500))
    stats = {name: activation_stats(_model(500, k, True), x) for name, k in KINDS.items()}
    numbers: list[Number] = []
    for name, s in stats.items():
        bn = [layer.forward.std for layer in s.layers if layer.kind == "BatchNorm1d"]
        after = [layer.forward for layer in s.layers if layer.slope is not None]
        worst = max(abs(v - 1) for v in bn)
        numbers.append(near(f"{name}: largest |std - 1| before", worst, 0, "X42, NORM-7", abs=2e-3))
        for layer, (mean, std) in EXPECTED[name].items():
            f = after[layer - 1]
            numbers.append(near(f"{name}: mean, layer {layer}", f.mean, mean, "NORM-7", abs=6e-3))
            numbers.append(near(f"{name}: std, layer {layer}", f.std, std, "NORM-7", abs=6e-3))
    losses = {on: _losses(on, 5 if quick else 15, seed) for on in (False, True)}
    numbers += [
        at_least("without: last loss", losses[False][-1], 2.25, "it stays at log 10 = 2.303"),
        at_most("with BatchNorm: last loss", losses[True][-1], 1.0, "X42: trainable"),
    ]
    return Result(numbers, lambda f: _draw(f, stats, losses))


def _model(width: int, activation: type[nn.Module], norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(10):
        linear = nn.Linear(width, width, bias=False)
        init.normal_(linear.weight, std=0.01)
        layers += [linear, *([nn.BatchNorm1d(width)] if norm else []), activation()]
    return nn.Sequential(*layers)


def _losses(norm: bool, epochs: int, seed: int) -> list[float]:
    fn.manual_seed(seed)
    x, y, _, _ = digits(1000, seed)
    model = nn.Sequential(nn.Linear(64, 100), _model(100, nn.ReLU, norm), nn.Linear(100, 10))
    step = steps(model, fn.optim.SGD(model.parameters(), lr=0.05), F.cross_entropy)
    return [
        step(x[i : i + 100], y[i : i + 100]) for _ in range(epochs) for i in range(0, len(x), 100)
    ]


def _draw(figure: Any, stats: dict[str, ActivationStats], losses: dict[bool, list[float]]) -> None:
    left, right = axes_of(figure, 2, ["ten layers of 0.01 randn with BatchNorm", "training"])
    for color, (name, s) in zip(COLORS, stats.items(), strict=False):
        after = [layer.forward.std for layer in s.layers if layer.slope is not None]
        left.plot(range(1, 11), after, "o-", color=color, label=f"{name}'s outputs")
    # Without BatchNorm a layer of 500 multiplies by 0.01 sqrt(500).
    left.plot(
        range(1, 11), [0.2236**i for i in range(1, 11)], ":", color="#888888", label="without"
    )
    left.set_ylim(0, 0.8)
    left.set_xlabel("layer")
    left.set_ylabel("standard deviation")
    for color, (on, values) in zip(COLORS[2:], losses.items(), strict=False):
        right.plot(values, color=color, label="with BatchNorm" if on else "without")
    right.set_xlabel("step")
    right.set_ylabel("training loss")
    for axes in (left, right):
        axes.legend(frameon=False)
