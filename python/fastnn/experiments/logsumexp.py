"""X13: exp(1000) overflows; softmax and log-sum-exp with the largest value taken out do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, equal


def run(seed: int, quick: bool) -> Result:
    """Naive and stable forms for logits (z, 0), z up to 1000."""
    z = np.linspace(0, 1000, 201, dtype=np.float32)
    logits = np.stack([z, np.zeros_like(z)], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(logits)
        naive = powers[:, 0] / powers.sum(1)
        naive_log = np.log(powers.sum(1))
    stable = np.asarray(F.softmax(logits, dim=1))
    stable_log = np.asarray(F.logsumexp(logits, dim=1))
    loss = F.cross_entropy(logits[-1:], np.array([1])).item()
    numbers = [
        equal("naive softmax(1000, 0) is NaN", float(np.isnan(naive[-1])), 1, "LOSS-2"),
        equal("softmax(1000, 0), first", stable[-1, 0], 1, "LOSS-2"),
        equal("softmax(1000, 0), second", stable[-1, 1], 0, "LOSS-2"),
        equal("logsumexp(1000, 0)", stable_log[-1], 1000, "LOSS-3"),
        equal("cross-entropy of the other class", loss, 1000, "LOSS-1"),
        equal("NaN among 201 stable rows", np.isnan(stable).sum(), 0, "X13"),
    ]
    return Result(numbers, lambda f: _draw(f, z, naive, naive_log, stable, stable_log))


def _draw(figure: Any, z: Any, naive: Any, naive_log: Any, stable: Any, stable_log: Any) -> None:
    left, right = axes_of(figure, 2, ["softmax(z, 0)", "logsumexp(z, 0)"])
    for axes, good, bad in ((left, stable[:, 0], naive), (right, stable_log, naive_log)):
        axes.plot(z, good, color=COLORS[0], label="stable")
        axes.plot(z, np.where(np.isfinite(bad), bad, np.nan), "--", color=COLORS[3], label="naive")
        axes.axvline(88.7, color="#888888", linewidth=1, linestyle=":", label="float32's limit")
        axes.set_xlabel("z")
        axes.legend(frameon=False)
