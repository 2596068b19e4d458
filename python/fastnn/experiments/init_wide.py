"""X8: six layers of 4096 units, a batch of 16: the second lecture's version of the same tables.

The four cases share their random matrices, which are what takes the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, near
from fastnn.nn import init

# Activation, and the weights' standard deviation of a layer of n inputs.
CASES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "tanh, 0.01": ("tanh", lambda n: 0.01),
    "tanh, Xavier": ("tanh", lambda n: n**-0.5),
    "ReLU, Xavier": ("relu", lambda n: n**-0.5),
    "ReLU, He": ("relu", lambda n: (2 / n) ** 0.5),
}


def run(seed: int, quick: bool) -> Result:
    """Standard deviations after each layer; a quick run has 1024 units, and scales 0.01 with it."""
    width = 1024 if quick else 4096
    signals = dict.fromkeys(CASES, init.normal_(fn.zeros(16, width)))
    stds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(6):
        unit = init.normal_(fn.zeros(width, width))
        for name, (activation, scale) in CASES.items():
            std = scale(width) if name != "tanh, 0.01" else 0.01 * (4096 / width) ** 0.5
            x = fn.F.linear(signals[name] * std, unit, activation=activation)
            signals[name] = x
            stds[name].append(float(np.asarray(x, np.float64).std()))
    # A batch of 16 has few samples: a case's spread is 2 % for tanh, and for ReLU what layers of
    # this width multiply up, about sqrt(5 / width) each, and the batch's correlations.
    expected = {
        "tanh, 0.01": (0.4905, 0.0464, 0.04),
        "tanh, Xavier": (0.6264, 0.2965, 0.03),
        "ReLU, Xavier": (0.580, 0.101, 0.2),
        "ReLU, He": (0.820, 0.810, 0.2),
    }
    numbers = []
    for name, (first, last, rel) in expected.items():
        numbers.append(near(f"{name}: std of layer 1", stds[name][0], first, "INIT-10", rel=0.02))
        why = "INIT-10, one draw each" if "tanh" in name else "INIT-10; spread of six draws"
        numbers.append(near(f"{name}: std of layer 6", stds[name][-1], last, why, rel=rel))
    return Result(numbers, lambda f: _draw(f, stds, width), (6, 4))


def _draw(figure: Any, stds: dict[str, list[float]], width: int) -> None:
    (axes,) = axes_of(figure, 1, [f"Six layers of {width} units, batch 16"])
    for color, (name, values) in zip(COLORS, stds.items(), strict=False):
        axes.semilogy(range(1, 7), values, "o-", color=color, label=name)
    axes.set_xlabel("layer")
    axes.set_ylabel("standard deviation of the outputs")
    axes.legend(frameon=False)
