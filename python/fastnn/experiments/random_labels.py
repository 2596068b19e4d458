"""X32: a network memorises labels that mean nothing, in little more time than real ones.

So what it can represent does not explain why it generalises: the same network is right on real
labels it has not seen, and at chance on random ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import nn
from fastnn.experiments.common import COLORS, accuracy, axes_of, digits
from fastnn.experiments.result import Result, at_least, at_most, between


def run(seed: int, quick: bool) -> Result:
    """Training errors by epoch on real and on random labels of the same digits."""
    rows, epochs = (300, 120) if quick else (1000, 150)
    x, y, x_test, y_test = digits(rows, seed)
    noise = np.random.default_rng(seed).integers(0, 10, rows)
    errors, tests = {}, {}
    for name, labels in (("real labels", y), ("random labels", noise)):
        fn.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )
        optimizer = fn.optim.Adam(model.parameters(), lr=2e-3)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
        history = trainer.fit(x, labels, batch_size=50, epochs=epochs, verbose=0)
        errors[name] = 1 - np.array(history.history["accuracy"])
        errors[name][-1] = 1 - accuracy(model, x, labels)
        tests[name] = 1 - accuracy(model, x_test, y_test)
    late = [int(np.argmax(errors[n] < 0.02)) for n in ("real labels", "random labels")]
    numbers = [
        at_most("real labels: training error", errors["real labels"][-1], 0.01, "X32"),
        at_most("random labels: training error", errors["random labels"][-1], 0.01, "X32, REG-9"),
        at_most("real labels: test error", tests["real labels"], 0.12, "it generalises"),
        between("random labels: test error", tests["random labels"], 0.8, 1.0, "chance is 0.9"),
        at_least("epochs to 2 %, random less real", late[1] - late[0], 1, "REG-9: some more time"),
    ]
    return Result(numbers, lambda f: _draw(f, errors), (6, 4))


def _draw(figure: Any, errors: dict[str, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["Digits with real and with random labels"])
    for color, (name, values) in zip(COLORS, errors.items(), strict=False):
        axes.plot(range(1, 1 + len(values)), 100 * values, color=color, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
