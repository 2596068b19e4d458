"""X9: singular values of a random 50 x 50 matrix, and of products of such matrices.

Each factor stretches a few directions and flattens the others: after ten, all gradients point the
same way. Orthogonal matrices do not do that. The products are float64's: a condition of 1e13 is
beyond float32, which has the draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn.experiments.common import COLORS, Draw, axes_of
from fastnn.experiments.result import Result, at_most, near
from fastnn.nn import init

N = 50
COUNTS = (1, 2, 3, 5, 10)
# factors: median of the largest, stable rank, mean log10 of the condition
EXPECTED = {1: (13.58, 13.5, 2.33), 2: (121.8, 8.42, 3.66), 3: (998, 6.27, 4.88),
            5: (5.99e4, 4.36, 7.18), 10: (1.31e9, 2.76, 12.98)}  # fmt: skip


def run(seed: int, quick: bool) -> Result:
    """Spectra over 200 products of 1, 2, 3, 5 and 10 matrices."""
    products = 60 if quick else 200
    spectra = _spectra(init.normal_, products)
    numbers = []
    for count, (largest, rank, log_condition) in EXPECTED.items():
        s = spectra[count]
        for name, values, expected in (
            ("log10 of largest", np.log10(s[:, 0]), np.log10(largest)),
            ("stable rank", (s**2).sum(1) / s[:, 0] ** 2, rank),
            ("log10 of condition", np.log10(s[:, 0] / s[:, -1]), log_condition),
        ):
            # Of both sides: the specification's numbers are those of 200 products.
            error = 1.25 * values.std() * (1 / products + 1 / 200) ** 0.5
            middle = values.mean() if "condition" in name else np.median(values)
            why = "INIT-12; 4 standard errors"
            numbers.append(near(f"{count}: {name}", middle, expected, why, abs=4 * error))
    orthogonal = _spectra(init.orthogonal_, 1)
    condition = orthogonal[10][0, 0] / orthogonal[10][0, -1]
    numbers.append(at_most("10 orthogonal: condition - 1", condition - 1, 1e-5, "exact: 0"))
    return Result(numbers, lambda f: _draw(f, spectra, orthogonal), (6.5, 4.2))


def _spectra(draw: Draw, products: int) -> dict[int, Any]:
    """Singular values (products, N) by the number of factors."""
    whole, spectra = np.tile(np.eye(N), (products, 1, 1)), {}
    for count in range(1, max(COUNTS) + 1):
        factors = [np.asarray(draw(fn.zeros(N, N)), np.float64) for _ in range(products)]
        whole = np.stack(factors) @ whole
        if count in COUNTS:
            spectra[count] = np.linalg.svd(whole, compute_uv=False)
    return spectra


def _draw(figure: Any, spectra: dict[int, Any], orthogonal: dict[int, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["Products of random 50 x 50 matrices (median)"])
    rank = range(1, N + 1)
    for color, (count, values) in zip(COLORS, spectra.items(), strict=False):
        label = f"{count} Gaussian" if count > 1 else "1 Gaussian matrix"
        axes.semilogy(rank, np.median(values, axis=0), color=color, label=label)
    axes.semilogy(rank, orthogonal[10][0], "--", color="#444444", label="10 orthogonal")
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value")
    axes.legend(frameon=False, fontsize=8)
