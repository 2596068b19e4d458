"""Schedules made of schedules: one after the other, one on top of the other, after a warm-up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fastnn.optim.lr_scheduler.base import LRScheduler
from fastnn.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR", "WarmupLR"]


class SequentialLR(LRScheduler):
    """One schedule after the other, each counting from its milestone.

    Args:
        optimizer: Whose rates to set, and that of the schedulers.
        schedulers: At least one.
        milestones: The steps at which the second, third, ... take over: increasing.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If there is not one milestone between any two schedulers, or one is of another
            optimizer.
        TypeError: For what has no rate for each step count, such as ReduceLROnPlateau.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.optim import lr_scheduler
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> up = lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> down = lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> both = lr_scheduler.SequentialLR(optimizer, [up, down], milestones=[2])
        >>> [both.at(t)[0] for t in range(5)]
        [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        _check_parts(self, optimizer, schedulers)
        rule = f"{len(schedulers) - 1} milestones > 0 that increase"
        valid = len(milestones) == len(schedulers) - 1
        valid = valid and all(a < b for a, b in pairwise([0, *milestones]))
        self._need(valid, rule, list(milestones))
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """That of the schedule whose turn it is."""
        i = bisect_right(self.milestones, t)
        return self.schedulers[i].lr_at(t - [0, *self.milestones][i], base, group)

    def momentum_at(self, t: int, group: int) -> float | None:
        """Likewise, or where the one before left it."""
        starts = [0, *self.milestones]
        for i in reversed(range(bisect_right(self.milestones, t) + 1)):
            momentum = self.schedulers[i].momentum_at(t - starts[i], group)
            if momentum is not None:
                return momentum
            t = starts[i] - 1  # the last step of the one before
        return None


class ChainedScheduler(LRScheduler):
    """All schedules at once: each starts from the rate of the one before, f(t, g(t, base)).

    Factors multiply, as in torch.

    Args:
        schedulers: At least one; those that set rates of their own (CyclicLR, OneCycleLR) make
            sense in the first place only.
        optimizer: That of the schedulers; default: the first one's.

    Raises:
        ValueError: If there is none, or one is of another optimizer.
        TypeError: For what has no rate for each step count, such as ReduceLROnPlateau.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.optim import lr_scheduler
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> warm = lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> decay = lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> both = lr_scheduler.ChainedScheduler([warm, decay])
        >>> [both.at(t)[0] for t in range(4)]
        [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._need(len(schedulers) > 0, "at least one scheduler", "none")
        optimizer = optimizer or schedulers[0].optimizer
        _check_parts(self, optimizer, schedulers)
        self.schedulers = list(schedulers)
        super().__init__(optimizer)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """That of the last, from those before."""
        for scheduler in self.schedulers:
            base = scheduler.lr_at(t, base, group)
        return base

    def momentum_at(self, t: int, group: int) -> float | None:
        """That of the last that moves it."""
        found = [scheduler.momentum_at(t, group) for scheduler in self.schedulers]
        return next((momentum for momentum in reversed(found) if momentum is not None), None)


class WarmupLR(LRScheduler):
    """A warm-up, then another schedule, which counts from its end; or the base rate.

    ``"gradual"``: base (f + (1 - f) t / n) for t < n; ``"constant"``: base f; ``"none"``: nothing.
    Small rates at first keep the loss from exploding while weights and optimizer settle.

    Args:
        optimizer: Whose rates to set.
        warmup_iters: n, >= 0.
        kind: See above.
        start_factor: f in [0, 1]; default: 0 for gradual, 0.1 for constant.
        then: The schedule that follows, of the same optimizer.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range, or then is of another optimizer.
        TypeError: If then has no rate for each step count, such as ReduceLROnPlateau.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.optim import lr_scheduler
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> decay = lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> scheduler = lr_scheduler.WarmupLR(optimizer, 4, then=decay)
        >>> [scheduler.at(t)[0] for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 0.5]

    Source:
        Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_iters: int = 5000,
        kind: str = "gradual",
        start_factor: float | None = None,
        then: LRScheduler | None = None,
        last_epoch: int = -1,
    ) -> None:
        factors = {"none": 1.0, "constant": 0.1, "gradual": 0.0}
        self._need(warmup_iters >= 0, "warmup_iters >= 0", warmup_iters)
        choices = ", ".join(map(repr, factors))
        self._need(kind in factors, f"kind to be one of {choices}", repr(kind))
        factor = factors[kind] if start_factor is None else start_factor
        self._need(0 <= factor <= 1, "0 <= start_factor <= 1", factor)
        if then is not None:
            _check_parts(self, optimizer, [then])
        self.warmup_iters = 0 if kind == "none" else warmup_iters
        self.kind, self.start_factor, self.then = kind, factor, then
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """On the way up, or what follows."""
        if t < self.warmup_iters:
            share = t / self.warmup_iters if self.kind == "gradual" else 0.0
            return base * (self.start_factor + (1 - self.start_factor) * share)
        return base if self.then is None else self.then.lr_at(t - self.warmup_iters, base, group)

    def momentum_at(self, t: int, group: int) -> float | None:
        """That of what follows, and its first until then."""
        if self.then is None:
            return None
        return self.then.momentum_at(max(t - self.warmup_iters, 0), group)


def _check_parts(whole: LRScheduler, optimizer: Optimizer, parts: Sequence[Any]) -> None:
    for i, part in enumerate(parts):
        if not isinstance(part, LRScheduler):
            raise TypeError(
                f"{type(whole).__name__}: expected schedules that know the rate of every step, got "
                f"{type(part).__name__} at position {i}"
            )
        own = part.optimizer is optimizer
        whole._need(own, "schedulers of one optimizer", f"another one's at position {i}")
