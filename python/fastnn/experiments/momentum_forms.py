"""X21: the forms of momentum in the lectures agree, as long as the rate is constant.

A: v = rho v + g; x -= lr v.  B: v = rho v - lr g; x += v.  C: v = rho v + lr g; x -= v.
D: a bias-corrected mean of gradients. B is C mirrored; A has the rate outside of its velocity, so
that a drop of the rate acts at once, and in B only as the old velocity fades. float32's rounding is
what is left of the differences (the float64 oracles' are below 1e-12, which a test says).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.experiments.common import COLORS, axes_of, descend
from fastnn.experiments.result import Result, at_least, at_most, equal

HESSIAN = np.array([1.0, 3.0, 0.2])


def run(seed: int, quick: bool) -> Result:
    """Trajectories on a bowl at a constant rate, and at one that drops after half of the steps."""
    rates = {"constant": lambda t: 0.05, "dropped": lambda t: 0.05 if t <= 20 else 0.005}
    paths: dict[tuple[str, str], Any] = {}
    numbers = []
    for nesterov in (False, True):
        kind = "Nesterov" if nesterov else "momentum"
        for rate, lr in rates.items():
            a, b, c = (_path(form, lr, nesterov) for form in "ABC")
            if not nesterov:
                paths |= {(rate, "A"): a, (rate, "B"): b}
            gap, label = np.abs(a - b).max(), f"{kind}, rate {rate}: |A - B|"
            why = "X21; 40 roundings of float32"
            numbers.append(
                at_most(label, gap, 1e-5, why)
                if rate == "constant"
                else at_least(label, gap, 0.01, "X21, OPT-5")
            )
            numbers.append(equal(f"{kind}, rate {rate}: |B - C|", np.abs(b - c).max(), 0, "OPT-5"))
    d = _path("D", lambda t: 0.05, False)
    first = np.abs(np.diff(d[:2], axis=0)).max() / 0.05 / 6  # 6 is the largest gradient
    numbers.append(at_most("D: |first step / (lr g) - 1|", abs(first - 1), 1e-5, "OPT-5 M-D"))
    return Result(numbers, lambda f: _draw(f, paths))


def _path(form: str, lr: Any, nesterov: bool) -> Any:
    start = [1.0, -2.0, 0.5]
    options: dict[str, Any] = {"momentum": 0.9, "form": form}
    if nesterov:
        options["nesterov"] = True
    return descend("SGD", lambda w: HESSIAN * w, start, 40, lr, **options)


def _draw(figure: Any, paths: dict[tuple[str, str], Any]) -> None:
    axes = axes_of(figure, 2, ["constant rate", "rate / 10 after step 20"])
    for (rate, form), path in paths.items():
        a, style = axes[rate == "dropped"], "-" if form == "A" else "--"
        color = COLORS[0] if form == "A" else COLORS[1]
        a.plot(path[:, 1], style, color=color, label=f"form {form}")
    for a in axes:
        a.set_xlabel("step")
        a.legend(frameon=False)
    axes[1].axvline(20, color="#888888", linewidth=1, linestyle=":")
    axes[0].set_ylabel("second coordinate")
