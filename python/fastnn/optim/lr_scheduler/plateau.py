"""ReduceLROnPlateau: lower the rate when a quantity stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastnn.optim.lr_scheduler.base import OptimizerRates, is_count, per_group
from fastnn.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(OptimizerRates):
    """lr = max(factor lr, min_lr) once a quantity has not improved for more than patience steps.

    Args:
        optimizer: Whose rates to set.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger is.
        factor: In [0, 1).
        patience: Steps without improvement that are borne.
        threshold: What counts as an improvement, see the next.
        threshold_mode: ``"rel"``: better than best (1 -+ threshold); ``"abs"``: than
            best -+ threshold.
        cooldown: Steps after a reduction during which nothing is counted.
        min_lr: Lower bound, for all groups or a list of one for each.
        eps: A smaller change is not made.

    Attributes:
        best: The best value so far, None at first. NaN never is.
        num_bad_epochs: Steps since then.
        cooldown_counter: Steps of the cooldown that are left.
        last_epoch: How often it has stepped.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
        >>> for loss in (3.0, 2.0, 2.0, 2.0):
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self._need(mode in ("min", "max"), "mode 'min' or 'max'", repr(mode))
        self._need(0 <= factor < 1, "0 <= factor < 1", factor)
        self._need(patience >= 0, "patience >= 0", patience)
        self._need(threshold >= 0, "threshold >= 0", threshold)
        modes = "threshold_mode 'rel' or 'abs'"
        self._need(threshold_mode in ("rel", "abs"), modes, repr(threshold_mode))
        self._need(cooldown >= 0, "cooldown >= 0", cooldown)
        self._need(eps >= 0, "eps >= 0", eps)
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lrs = per_group(self, "min_lr", optimizer, min_lr)
        self.best: float | None = None
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Take the quantity's value after an epoch; anything that ``float()`` takes."""
        value = float(metrics)
        self.last_epoch += 1
        if self._improves(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _improves(self, value: float) -> bool:
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        sign = 1.0 if self.mode == "max" else -1.0
        scale = self.best if self.threshold_mode == "rel" else 1.0
        return sign * (value - (self.best + sign * self.threshold * scale)) > 0

    def _reduce(self) -> None:
        for group, floor in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(float(group["lr"]) * self.factor, floor)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Where it is; the rates themselves are in the optimizer's state."""
        return {
            "last_epoch": self.last_epoch,
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is no such state; nothing is changed.
        """
        best = state.get("best")
        self._need(best is None or type(best) is float, "a float best", str(best)[:80])
        counts = {}
        for name in ("last_epoch", "num_bad_epochs", "cooldown_counter"):
            counts[name] = state.get(name)
            self._need(is_count(counts[name]), f"{name} >= 0", str(counts[name])[:80])
        vars(self).update(best=best, **counts)
