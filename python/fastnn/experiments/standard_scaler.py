"""X25: StandardScaler on the lecture's matrix, whose last entry has lost its minus sign in print.

With +1 the printed outputs (mean 0.333, scale 1.247) cannot come out; with -1 they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import data
from fastnn.experiments.common import axes_of
from fastnn.experiments.result import Result, equal, near

X = np.array([[1.0, -1.0, 2.0], [2.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
MEAN, SCALE = (1.0, 0.0, 1 / 3), (0.8165, 0.8165, 1.2472)
TRANSFORMED = np.array([[0.0, -1.2247, 1.3363], [1.2247, 0.0, -0.2673], [-1.2247, 1.2247, -1.0690]])


def run(seed: int, quick: bool) -> Result:
    """Means, scales and the transformed matrix; then those of the misprint."""
    scaler = data.StandardScaler()
    got = np.asarray(scaler.fit_transform(X))
    numbers = []
    for i in range(3):
        numbers.append(near(f"mean {i}", scaler.mean_[i], MEAN[i], "PRE-5", abs=5e-5))
        numbers.append(near(f"scale {i}", scaler.scale_[i], SCALE[i], "PRE-5", abs=5e-5))
    gap = np.abs(got - TRANSFORMED).max()
    numbers.append(near("largest difference of the matrix", gap, 0, "PRE-5", abs=5e-5))
    misprint = X.copy()
    misprint[2, 2] = 1.0
    wrong = data.StandardScaler().fit(misprint)
    numbers.append(equal("misprint: mean 2", wrong.mean_[2], 1, "PRE-5: not the printed 0.333"))
    numbers.append(near("misprint: scale 2", wrong.scale_[2], 0.8165, "PRE-5", abs=5e-5))
    return Result(numbers, lambda f: _draw(f, got), (7, 3.4))


def _draw(figure: Any, transformed: Any) -> None:
    axes = axes_of(figure, 2, ["before", "after"])
    for a, matrix in zip(axes, (X, transformed), strict=True):
        a.imshow(matrix, cmap="RdBu_r", vmin=-4, vmax=4)
        for i in range(3):
            for j in range(3):
                a.text(j, i, f"{matrix[i, j]:.4g}", ha="center", va="center")
        a.set_xticks(range(3))
        a.set_yticks(range(3))
        a.grid(False)
        a.set_xlabel("feature")
    axes[0].set_ylabel("sample")
