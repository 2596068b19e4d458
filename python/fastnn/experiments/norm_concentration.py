"""X10: in high dimension all samples of N(0, I) have the same length, sqrt(N), within 0.7."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastnn as fn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, near
from fastnn.nn import init

DIMENSIONS = (1, 2, 10, 100, 1000, 10_000)


def run(seed: int, quick: bool) -> Result:
    """Mean and standard deviation of the length, by dimension."""
    samples = 500 if quick else 4000
    lengths = {n: _lengths(n, samples) for n in DIMENSIONS}
    numbers = []
    for n in DIMENSIONS:
        # E|x| = sqrt(2) Gamma((n + 1) / 2) / Gamma(n / 2); Var = n - (E|x|)^2, 1/2 in the limit.
        mean = math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
        std = math.sqrt(n - mean**2) if n < 1000 else math.sqrt(0.5)
        error = 5 * std / math.sqrt(samples)
        why = "INIT-13, exact; 5 standard errors"
        numbers.append(near(f"N = {n}: mean length", lengths[n].mean(), mean, why, abs=error))
        numbers.append(near(f"N = {n}: std of it", lengths[n].std(), std, why, abs=error))
    return Result(numbers, lambda f: _draw(f, lengths), (9, 3.6))


def _lengths(n: int, samples: int) -> Any:
    """Lengths of samples of n dimensions, drawn in pieces of at most 64 MB."""
    rows = max(1, min(samples, 2**24 // n))
    pieces = [
        np.linalg.norm(init.normal_(fn.zeros(min(rows, samples - start), n)).numpy(), axis=1)
        for start in range(0, samples, rows)
    ]
    return np.concatenate(pieces).astype(np.float64)


def _draw(figure: Any, lengths: dict[int, Any]) -> None:
    left, right = axes_of(figure, 2, ["Length over its mean", "Spread by dimension"])
    for color, (n, values) in zip(COLORS, lengths.items(), strict=False):
        if n >= 2:
            counts, edges = np.histogram(values / values.mean(), 30)
            left.stairs(counts / counts.max(), edges, color=color, label=f"N = {n:,}")
    left.set_xlabel("|x| / E|x|")
    left.set_ylabel("samples / most in a bin")
    left.legend(frameon=False, fontsize=8)
    dimensions = list(lengths)
    right.loglog(dimensions, [v.std() / v.mean() for v in lengths.values()], "o", color=COLORS[0])
    right.loglog(
        dimensions, [(2 * n) ** -0.5 for n in dimensions], color="#888888", label="1 / sqrt(2 N)"
    )
    right.set_xlabel("dimension N")
    right.set_ylabel("std / mean of the length")
    right.legend(frameon=False)
