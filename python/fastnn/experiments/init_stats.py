"""X1 to X5, X7: what becomes of a signal in ten layers of 500 units, and of its gradient.

A batch of 1000 samples N(0, 1) goes through ten layers without biases. Five ways to draw weights:
too small (the signal dies), too large (tanh saturates, and gradients explode nevertheless), Xavier
with tanh (right), Xavier with ReLU (half of the variance is lost per layer), He with ReLU (right).
The numbers of the last two spread by 12 % from draw to draw at layer 10: means over eight draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import nn
from fastnn.experiments.common import COLORS, Draw, axes_of, forward_table, stack
from fastnn.experiments.result import Number, Result, near
from fastnn.inspect import ActivationStats, activation_stats
from fastnn.inspect.summary import format_table
from fastnn.nn import init

CASES: dict[str, tuple[Draw, type[nn.Module], int]] = {
    "A: tanh, 0.01": (lambda w: init.normal_(w, std=0.01), nn.Tanh, 1),
    "B: tanh, 1": (init.normal_, nn.Tanh, 1),
    "C: tanh, Xavier": (init.lecun_normal_, nn.Tanh, 1),
    "D: ReLU, Xavier": (init.lecun_normal_, nn.ReLU, 8),
    "E: ReLU, He": (init.kaiming_normal_, nn.ReLU, 8),
}
# Standard deviation of the gradient at the first layer's input, for N(0, 1) at the top.
BACKWARD = {"A": 2.97e-7, "B": 2.6e5, "C": 0.267, "D": 0.0314, "E": 1.01}
WIDTH = 500


def run(seed: int, quick: bool) -> Result:
    """Forward and backward statistics of the five cases."""
    tables, gradients = {}, {}
    for name, (draw, activation, repeats) in CASES.items():
        repeats = min(repeats, 4) if quick else repeats
        name_of = activation.name  # type: ignore[attr-defined]
        runs = [forward_table(draw, name_of, 10, WIDTH, 1000) for _ in range(repeats)]
        tables[name[0]] = np.mean(runs, axis=0)
        batch = 200 if quick else 1000
        model, x = stack(draw, activation, 10, WIDTH), init.normal_(fn.zeros(batch, WIDTH))
        gradients[name[0]] = activation_stats(
            model, x, gradient=init.normal_(fn.zeros(batch, WIDTH))
        )
    numbers = [*_forward(tables), *_backward(gradients)]
    return Result(numbers, lambda f: _draw(f, tables, gradients), (10, 6.5), _table(tables))


def _forward(tables: dict[str, Any]) -> list[Number]:
    a, b, c, d, e = (tables[k] for k in "ABCDE")
    halves = (d[-1, 1] / d[0, 1]) ** (1 / 9)
    spread = "INIT-9; a draw's sd at layer 10 is 12 %"
    return [
        near("A: std of layer 10", a[-1, 1], 2.98e-7, "INIT-9 A", rel=0.05),
        near("A: std ratio per layer", (a[-1, 1] / a[2, 1]) ** (1 / 7), 0.2236, "X1", rel=0.01),
        near("B: least std, layers 2 to 10", b[1:, 1].min(), 0.9816, "X2", abs=5e-4),
        near("B: largest std, layers 2 to 10", b[1:, 1].max(), 0.9816, "X2", abs=5e-4),
        near("C: std of layer 1", c[0, 1], 0.627, "X3", abs=0.003),
        near("C: std of layer 10", c[-1, 1], 0.228, "X3", abs=0.006),
        near("D: mean of layer 1", d[0, 0], 0.3984, "X4, INIT-9 D", abs=0.005),
        near("D: std of layer 1", d[0, 1], 0.5833, "X4, INIT-9 D", abs=0.005),
        near("D: std ratio per layer", halves, 0.7071, "X4; " + spread, rel=0.03),
        near("E: mean of layer 1", e[0, 0], 0.5642, "X5, exact sqrt(1/pi)", abs=0.007),
        near("E: std of layer 1", e[0, 1], 0.8256, "X5, exact", abs=0.007),
        near("E: mean of layer 10", e[-1, 0], 0.56, "X5; " + spread, rel=0.15),
        near("E: std of layer 10", e[-1, 1], 0.82, "X5; " + spread, rel=0.15),
        near("E: largest deviation of a std", np.abs(e[:, 1] / 0.82 - 1).max(), 0, "X5", abs=0.15),
    ]


def _backward(gradients: dict[str, ActivationStats]) -> list[Number]:
    numbers = []
    for name, stats in gradients.items():
        back = stats["input"].backward
        assert back is not None
        # The product of ten layers' random factors; ReLU masks make D's and E's spread wider.
        rel = 0.05 if name in "AC" else 0.35
        why = "INIT-9, X7; ten factors of one draw"
        numbers.append(
            near(f"{name}: gradient at the input", back.std, BACKWARD[name], why, rel=rel)
        )
    saturated = gradients["B"].layers[-1].saturated
    assert saturated is not None
    slope = gradients["B"].layers[-1].slope
    assert slope is not None
    numbers.append(near("B: share beyond 0.99", saturated, 0.905, "correction 12", abs=0.01))
    numbers.append(near("B: mean of 1 - h^2", slope.mean, 0.036, "correction 12", abs=0.003))
    return numbers


def _table(tables: dict[str, Any]) -> str:
    rows = [
        [str(i + 1), *(f"{m:.4f}, {s:.3g}" for m, s in (t[i] for t in tables.values()))]
        for i in range(10)
    ]
    return format_table(["layer (mean, std)", *CASES], rows)


def _draw(figure: Any, tables: dict[str, Any], gradients: dict[str, ActivationStats]) -> None:
    grid = axes_of(figure, 5, list(CASES), rows=2)
    for i, stats in enumerate(gradients.values()):
        layers = [layer for layer in stats.layers if layer.slope is not None]
        for j, shown in enumerate((0, 4, 9)):
            f, color = layers[shown].forward, COLORS[j]
            grid[i].stairs(
                f.counts / f.counts.max(), f.edges, color=color, label=f"layer {shown + 1}"
            )
        grid[i].set_yticks([])
        if i >= 3:  # ReLU's zeros fill the first bin
            grid[i].set(xlim=(-0.1, 3), ylim=(0, 0.15))
        back = [layer.backward.std for layer in layers if layer.backward is not None]
        forward = tables["ABCDE"[i]][:, 1]
        grid[5 + i].semilogy(range(1, 11), forward, "o-", color=COLORS[0], label="outputs", ms=3)
        grid[5 + i].semilogy(range(1, 11), back, "s-", color=COLORS[1], label="gradients", ms=3)
        grid[5 + i].set_xlabel("layer")
        grid[5 + i].set_xticks([1, 4, 7, 10])
        if i >= 2:
            grid[5 + i].set_ylim(0.01, 10)
    grid[1].legend(frameon=False, fontsize=7, loc="center")
    grid[0].set_ylabel("histogram of outputs")
    grid[5].legend(frameon=False, fontsize=8)
    grid[5].set_ylabel("standard deviation")
