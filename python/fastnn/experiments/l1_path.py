"""REG-3, REG-4: the L1 path: coefficients against lambda, zero one after the other.

min |y - X w|² / (2 n) + lambda |w|_1 by proximal gradient steps (SGD with ``ProximalL1``). What
tells that w is the minimum: |X'(y - X w)| / n is lambda where w is not 0, and at most lambda where
it is. The gradient of the penalty alone, sign(w), makes weights small but never 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import F
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, at_most, equal

TRUE = np.array([3.0, -2.0, 1.5, 0, 0, 0, 0, 0])


def run(seed: int, quick: bool) -> Result:
    """The path from the least squares solution to nothing."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(100, 1))
    x = (rng.normal(size=(100, 8)) + 0.7 * common).astype(np.float32)
    y = (x @ TRUE[:, None] + rng.normal(size=(100, 1))).astype(np.float32)
    largest = float(np.abs(x.T @ y).max()) / len(x)
    lambdas = largest * np.geomspace(1.001, 1e-3, 12 if quick else 30)
    path, gaps = [], []
    w = fn.tensor(np.zeros((1, 8)), requires_grad=True)
    for lam in lambdas:  # from the largest, each from the solution before
        _solve(w, x, y, lam, 150 if quick else 300)
        path.append(np.array(w.detach(), np.float64)[0])
        correlation = x.T @ (y[:, 0] - x @ path[-1]) / len(x)
        slack = np.where(path[-1] != 0, correlation - lam * np.sign(path[-1]),
                         np.maximum(np.abs(correlation) - lam, 0))  # fmt: skip
        gaps.append(np.abs(slack).max() / largest)
    subgradient = _subgradient(x, y, 0.2 * largest)
    zeros = (np.array(path) == 0).sum(1)
    middle = int(np.argmin(np.abs(lambdas - 0.05 * largest)))
    numbers = [
        at_most(
            "largest gap of optimality / lambda_max", max(gaps), 1e-3, "KKT conditions; exact: 0"
        ),
        equal("zeros at lambda_max", zeros[0], 8, "exact"),
        at_least("zeros at 0.05 lambda_max", zeros[middle], 2, "REG-3: exact zeros"),
        equal("zeros of the true ones there", (path[middle][:3] == 0).sum(), 0, "they are large"),
        equal("zeros at 0.001 lambda_max", zeros[-1], 0, "almost least squares"),
        equal("zeros by sign(w) alone", (subgradient == 0).sum(), 0, "REG-3: it gives none"),
    ]
    return Result(numbers, lambda f: _draw(f, lambdas / largest, np.array(path)), (6.5, 4))


def _solve(w: fn.Tensor, x: Any, y: Any, lam: float, steps: int) -> None:
    """Steps of 1 / L, L the largest curvature."""
    lr = len(x) / float(np.linalg.norm(x.astype(np.float64), 2)) ** 2
    optimizer = fn.optim.SGD([w], lr=lr)
    optimizer.register_step_post_hook(fn.optim.ProximalL1(lam))
    for _ in range(steps):
        optimizer.zero_grad()
        (F.mse_loss(F.linear(x, w), y) * 0.5).backward()
        optimizer.step()


def _subgradient(x: Any, y: Any, lam: float) -> Any:
    w = fn.tensor(np.full((1, 8), 0.1), requires_grad=True)
    optimizer = fn.optim.SGD([w], lr=0.01)
    for _ in range(500):
        optimizer.zero_grad()
        (F.mse_loss(F.linear(x, w), y) * 0.5 + F.l1_penalty([w], lam)).backward()
        optimizer.step()
    return np.array(w.detach())


def _draw(figure: Any, lambdas: Any, path: Any) -> None:
    (axes,) = axes_of(figure, 1, ["Lasso path: three features matter, five do not"])
    for i, values in enumerate(path.T):
        real = TRUE[i] != 0
        color = COLORS[i] if real else "#b8b8b8"
        label = f"true: {TRUE[i]:g}" if real else ("true: 0" if i == 3 else None)
        axes.semilogx(lambdas, values, color=color, label=label)
    axes.invert_xaxis()
    axes.set_xlabel("lambda / lambda_max")
    axes.set_ylabel("coefficient")
    axes.legend(frameon=False)
