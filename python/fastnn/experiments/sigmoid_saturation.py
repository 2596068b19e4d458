"""X12: sigmoids behind large weights pass almost no gradient.

The mean of the derivative s (1 - s) after one layer of 500 inputs N(0, 1), by the weights' scale.
"""

from __future__ import annotations

from typing import Any

import fastnn as fn
from fastnn import nn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, near
from fastnn.inspect import LayerStats, activation_stats
from fastnn.nn import init

EXPECTED = {0.01: 0.247, 0.0447: 0.206, 1.0: 0.0178, 10.0: 0.00177}


def run(seed: int, quick: bool) -> Result:
    """The derivative's mean and its histogram, by the scale of the weights."""
    x = init.normal_(fn.zeros(200 if quick else 1000, 500))
    layers: dict[float, LayerStats] = {}
    for scale in EXPECTED:
        linear = nn.Linear(500, 500, bias=False)
        init.normal_(linear.weight, std=scale)
        layers[scale] = activation_stats(nn.Sequential(linear, nn.Sigmoid()), x).layers[-1]
    numbers = []
    for scale, expected in EXPECTED.items():
        slope = layers[scale].slope
        assert slope is not None
        # Few outputs are not saturated at the large scales; 1 % is for the printed digits.
        error = 5 * slope.std / slope.counts.sum() ** 0.5 + 0.01 * expected
        why = "INIT-14; 5 standard errors"
        numbers.append(near(f"scale {scale}: mean slope", slope.mean, expected, why, abs=error))
    return Result(numbers, lambda f: _draw(f, layers), (10, 3))


def _draw(figure: Any, layers: dict[float, LayerStats]) -> None:
    axes = axes_of(figure, 4, [f"weights {scale} randn" for scale in layers])
    for a, layer in zip(axes, layers.values(), strict=True):
        s = layer.forward
        a.stairs(s.counts / s.counts.sum(), s.edges, fill=True, color=COLORS[0])
        a.set_xlabel("sigmoid's output")
        assert layer.slope is not None
        a.text(0.5, 0.92, f"mean slope {layer.slope.mean:.3g}", ha="center", transform=a.transAxes)
        a.set_ylim(top=1.25 * a.get_ylim()[1])
    axes[0].set_ylabel("share")
