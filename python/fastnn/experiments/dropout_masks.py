"""X16, X17, DRO-3: what dropout averages over, by all of its masks.

A neuron of two inputs has four masks; the mean over them is half of its value. Over all masks of
softmax(W x), the normalised geometric mean is softmax(W x / 2) exactly: one pass of scaled
weights stands for 2^n networks. The arithmetic mean of the probabilities is another thing.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, at_most, equal, near

N = 8  # inputs of the softmax layer: 256 masks


def run(seed: int, quick: bool) -> Result:
    """The neuron's mean over four masks, and a softmax layer's over 256."""
    inputs, weights = (np.array(v, np.float32) for v in ([[0.75, -2.5]], [[3.0, 0.125]]))
    masked: dict[tuple[float, ...], float] = {}
    while len(masked) < 4:  # until dropout has drawn each mask
        dropped = F.dropout(inputs, 0.5, mode="vanilla")
        kept = tuple((np.asarray(dropped)[0] != 0).astype(float))
        masked[kept] = F.linear(dropped, weights).item()
    whole = F.linear(inputs, weights).item()
    evaluated = F.dropout(inputs, 0.5, training=False, mode="vanilla")
    scaled = F.linear(evaluated, weights).item()

    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=N).astype(np.float32), rng.normal(size=(4, N)).astype(np.float32)
    masks = np.array(list(itertools.product((0, 1), repeat=N)), np.float32)
    probabilities = np.asarray(F.softmax(F.linear(masks * x, w), dim=1), np.float64)
    geometric = np.exp(np.log(probabilities).mean(0))
    geometric /= geometric.sum()
    one_pass = np.asarray(F.softmax(F.linear(0.5 * x[None], w), dim=1), np.float64)[0]
    arithmetic = probabilities.mean(0)
    numbers = [
        equal("mean of 4 masks", sum(masked.values()) / 4, whole / 2, "X16, exact"),
        equal("scaled pass", scaled, whole / 2, "X16, exact"),
        at_most("geometric mean - scaled softmax", np.abs(geometric - one_pass).max(), 1e-6,
                "DRO-3, exact"),
        at_least("arithmetic mean - scaled softmax", np.abs(arithmetic - one_pass).max(), 0.01,
                 "DRO-3: an approximation"),
        near("log10 of 2^4096", 4096 * math.log10(2), 1233.02, "X17", abs=0.005),
    ]  # fmt: skip
    return Result(numbers, lambda f: _draw(f, masked, whole, geometric, one_pass, arithmetic))


def _draw(figure: Any, masked: Any, whole: float, *means: Any) -> None:
    left, right = axes_of(figure, 2, ["a neuron of two inputs", "softmax over 256 masks"])
    names = [f"{int(a)}{int(b)}" for a, b in sorted(masked)]
    left.bar(names, [masked[k] for k in sorted(masked)], color=COLORS[0])
    left.axhline(whole / 2, color=COLORS[1], label="mean = half of the whole")
    left.set_ylim(top=1.25 * left.get_ylim()[1])
    left.set_xlabel("mask")
    left.legend(frameon=False)
    labels = ("geometric mean", "one scaled pass", "arithmetic mean")
    for i, (label, values) in enumerate(zip(labels, means, strict=True)):
        right.bar(np.arange(4) + 0.27 * (i - 1), values, 0.25, color=COLORS[i], label=label)
    right.set_xticks(range(4))
    right.set_xlabel("class")
    right.set_ylabel("probability")
    right.legend(frameon=False, fontsize=8)
