"""X22, LOSS-9: five optimizers on a saddle, on a long valley, and with noisy gradients.

The saddle x^2 - y^2 from (1, 0.001): how long until |y| > 1? The bowl (x^2 + 50 y^2) / 2: how far
down after 100 steps? The noisy bowl: plain SGD at the rate a ends in a cloud around the minimum
with the variance a s^2 / (h (2 - a h)). The animation shows the race on the saddle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, descend
from fastnn.experiments.result import Result, at_most, equal, near

RACERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "Adagrad": ("Adagrad", {}),
    "RMSProp": ("RMSprop", {"alpha": 0.9}),
    "Adam": ("Adam", {}),
}
ESCAPE = {"SGD": 38, "momentum": 19, "Adagrad": 17, "RMSProp": 4, "Adam": 11}
BOWL_RATES = {"SGD": 0.035, "momentum": 0.035, "Adagrad": 0.5, "RMSProp": 0.05, "Adam": 0.2}


def run(seed: int, quick: bool) -> Result:
    """Escape times, values after 100 steps, the width of the cloud."""
    saddle, bowl = {}, {}
    for name, (kind, options) in RACERS.items():
        saddle[name] = descend(kind, lambda w: w * [2, -2], [1.0, 1e-3], 45, 0.1, **options)
        lr = BOWL_RATES[name]
        bowl[name] = descend(kind, lambda w: w * [1, 50], [-8.0, 1.0], 100, lr, **options)
    numbers = [
        equal(f"saddle: {name}, steps to |y| > 1", int(np.argmax(np.abs(path[:, 1]) > 1)),
              ESCAPE[name], "X22")
        for name, path in saddle.items()
    ]  # fmt: skip
    values = {name: float(_bowl(*path[-1])) for name, path in bowl.items()}
    ratio = values["momentum"] / values["SGD"]
    numbers.append(at_most("bowl: momentum / SGD after 100 steps", ratio, 0.5, "OPT-4"))
    cloud, expected, error = _cloud(np.random.default_rng(seed), 4000 if quick else 20_000)
    why = "exact, 5 standard errors"
    numbers.append(near("noisy: variance of SGD", cloud.var(), expected, why, abs=5 * error))
    return Result(
        numbers,
        lambda f: _draw(f, saddle, bowl, cloud),
        (12, 3.8),
        animate=lambda f: _animate(f, saddle),
    )


def _bowl(x: Any, y: Any) -> Any:
    return (x * x + 50 * y * y) / 2


def _cloud(rng: np.random.Generator, steps: int) -> tuple[Any, float, float]:
    """SGD at 0.1 where the Hessian is 1 and the gradient's noise N(0, 1), and its variance."""
    h, lr = 1.0, 0.1
    path = descend("SGD", lambda w: h * w + rng.normal(size=1), [3.0], steps, lr)[200:, 0]
    expected = lr / (h * (2 - lr * h))
    # Neighbours are correlated by r = 1 - lr h: (1 + r^2) / (1 - r^2) steps count as one.
    r2 = (1 - lr * h) ** 2
    return path, expected, expected * (2 * (1 + r2) / (1 - r2) / len(path)) ** 0.5


def _draw(figure: Any, saddle: dict[str, Any], bowl: dict[str, Any], cloud: Any) -> None:
    titles = ["saddle x² - y²", "bowl (x² + 50 y²) / 2", "SGD with noisy gradients"]
    left, middle, right = axes_of(figure, 3, titles)
    _contours(left, lambda x, y: x * x - y * y, (-1.2, 1.2), (-0.3, 1.5))
    _contours(middle, _bowl, (-8.5, 5), (-1.6, 1.6))
    for axes, paths in ((left, saddle), (middle, bowl)):
        for color, (name, path) in zip(COLORS, paths.items(), strict=False):
            axes.plot(path[:, 0], path[:, 1], "-", color=color, label=name, linewidth=1.4)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    right.plot(cloud[:1000], color=COLORS[0], linewidth=0.7)
    right.axhspan(-0.2294, 0.2294, color=COLORS[1], alpha=0.3, label="± 1 sd, predicted")
    right.set_xlabel("step")
    right.legend(frameon=False, fontsize=8)


def _contours(axes: Any, surface: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    grid = np.meshgrid(np.linspace(*x, 121), np.linspace(*y, 121))
    axes.contour(*grid, surface(*grid), 25, colors="#c8c8c8", linewidths=0.7)
    axes.set(xlim=x, ylim=y)
    axes.grid(False)


def _animate(figure: Any, saddle: dict[str, Any]) -> Iterator[None]:
    """A frame per step: where each is, and how it came there."""
    axes = axes_of(figure, 1, ["five optimizers leave a saddle"])[0]
    _contours(axes, lambda x, y: x * x - y * y, (-1.2, 1.2), (-0.3, 1.5))
    colors = dict(zip(saddle, COLORS, strict=False))
    lines = {name: axes.plot([], [], "-", color=c, label=name)[0] for name, c in colors.items()}
    heads = {name: axes.plot([], [], "o", color=c)[0] for name, c in colors.items()}
    axes.legend(frameon=False, loc="upper left")
    counter = axes.text(0.98, 0.03, "", transform=axes.transAxes, ha="right")
    figure.draw_without_rendering()  # the layout, once
    figure.set_layout_engine("none")
    for step in range(len(saddle["SGD"])):
        for name, path in saddle.items():
            lines[name].set_data(*path[: step + 1].T)
            heads[name].set_data(*path[step : step + 1].T)
        counter.set_text(f"step {step}")
        yield
