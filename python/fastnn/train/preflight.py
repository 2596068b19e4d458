"""The lectures' checks before a long run: each takes seconds and finds a bug that costs hours.

Every check leaves the model, its modes and the generators as they were.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fastnn import nn, random
from fastnn.optim import Optimizer
from fastnn.train.checks import check_data
from fastnn.train.lr_search import left_as_it_was
from fastnn.train.objective import Objective
from fastnn.train.preflight_checks import CHECKS, FAIL, Case, Check

__all__ = ["Check", "CheckReport", "check"]

_ROWS = 512  # samples that most checks look at


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The checks in their order; as text, a line for each.

    Attributes:
        checks: All of them.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return all(c.status != FAIL for c in self.checks)

    def __getitem__(self, name: str) -> Check:
        return {c.name: c for c in self.checks}[name]

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))


def check(
    model: nn.Module,
    loss: Any,
    x: Any,
    y: Any,
    *,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
) -> CheckReport:
    """Look for the usual mistakes before a long training.

    The data are scaled and in no order; the loss starts where it has to and rises with
    regularisation; no softmax stands before a cross-entropy; gradients reach every layer; a tiny
    sample is learned by heart; training and evaluation agree; the loss falls within 100 steps.

    Args:
        model: The model, not yet trained.
        loss: As for :class:`fastnn.Trainer`.
        x: Samples to train on, preprocessed.
        y: Labels or targets.
        optimizer: Of the model's parameters; without it the checks of its steps are left out.
        batch_size: Samples per step.
        shuffle: Whether the training will shuffle.
        seed: Which samples are looked at.

    Returns:
        What each check found; ``print`` it. ``.ok`` is False if one failed.

    Raises:
        ValueError: For data that do not fit, as in :meth:`fastnn.Trainer.fit`.
        TypeError: For a :class:`fastnn.nn.Stacked`, which is several models.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> model = fn.nn.Sequential(fn.nn.Linear(4, 16), fn.nn.ReLU(), fn.nn.Linear(16, 2))
        >>> report = fn.train.check(model, fn.nn.CrossEntropyLoss(), x, (x[:, 0] > 0).astype(int))
        >>> report.ok, report["overfits a tiny sample"].status
        (True, 'PASS')

    Source:
        Karpathy 2019, "A recipe for training neural networks".
    """
    if isinstance(model, nn.Stacked):
        raise TypeError("check: expected one model, got Stacked; check one of stack.unstack()")
    objective = loss if isinstance(loss, Objective) else Objective(loss)
    device = next(model.parameters()).device
    data = check_data("check", model, objective, (x, y), device, None)
    chosen = random.permutation(len(data.x), seed, 0)[:_ROWS]
    rows = data.take(chosen)
    case = Case(model, objective, optimizer, rows, np.asarray(data.y), shuffle, batch_size)
    found: list[Check] = []
    with left_as_it_was(model):
        for look in CHECKS:
            found += [result for result in [look(case)] if result is not None]
    return CheckReport(tuple(found))
