"""Schedules that go one way: constant for a while, in steps, or by a curve."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

from fastnn.optim.lr_scheduler.base import LRScheduler
from fastnn.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "InverseSqrtLR",
    "InverseTimeLR",
    "LinearLR",
    "MultiStepLR",
    "PolynomialLR",
    "StepLR",
]


class ConstantLR(LRScheduler):
    """lr = factor base for total_iters steps, then base: a constant warm-up.

    Args:
        optimizer: Whose rates to set.
        factor: In [0, 1].
        total_iters: Steps until it is 1.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> scheduler = fn.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=4)
        >>> scheduler.at(3), scheduler.at(4)
        ([0.25], [0.5])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._need(0 <= factor <= 1, "0 <= factor <= 1", factor)
        self._need(total_iters >= 0, "total_iters >= 0", total_iters)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Factor base, then base."""
        return base * self.factor if t < self.total_iters else base


class LinearLR(LRScheduler):
    """lr = base (start + (end - start) min(t, T) / T): a gradual warm-up, or down to 0.

    Args:
        optimizer: Whose rates to set.
        start_factor: At step 0, in [0, 1]; 0 is allowed here, unlike in torch.
        end_factor: From step total_iters on, in [0, 1].
        total_iters: T, >= 1.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> scheduler = fn.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4)
        >>> [scheduler.at(t)[0] for t in range(6)]
        [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]

    Source:
        Devlin et al. 2019, "BERT", for the way down; Goyal et al. 2017, "Accurate, large minibatch
        SGD", for the way up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._need(0 <= start_factor <= 1, "0 <= start_factor <= 1", start_factor)
        self._need(0 <= end_factor <= 1, "0 <= end_factor <= 1", end_factor)
        self._need(total_iters >= 1, "total_iters >= 1", total_iters)
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Between the two factors, then the second."""
        share = min(t / self.total_iters, 1.0)
        return base * (self.start_factor * (1 - share) + self.end_factor * share)


class StepLR(LRScheduler):
    """lr = base gamma^floor(t / step_size).

    Args:
        optimizer: Whose rates to set.
        step_size: Steps between two drops, >= 1.
        gamma: Factor of a drop, >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.StepLR(optimizer, 30, gamma=0.5)
        >>> [scheduler.at(t)[0] for t in (0, 29, 30, 60)]
        [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self._need(step_size >= 1, "step_size >= 1", step_size)
        self._need(gamma >= 0, "gamma >= 0", gamma)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Base gamma^(drops so far)."""
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """lr = base gamma^(milestones reached).

    Args:
        optimizer: Whose rates to set.
        milestones: The steps at which it drops, in any order.
        gamma: Factor of a drop, >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60, 90], gamma=0.5)
        >>> [scheduler.at(t)[0] for t in (29, 30, 60, 90)]
        [1.0, 0.5, 0.25, 0.125]

    Source:
        He et al. 2016, "Deep residual learning for image recognition".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self._need(all(m >= 0 for m in self.milestones), "milestones >= 0", self.milestones)
        self._need(gamma >= 0, "gamma >= 0", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Base gamma^(drops so far)."""
        return base * self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """lr = base gamma^t.

    Args:
        optimizer: Whose rates to set.
        gamma: Factor of each step, >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If gamma is negative.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> fn.optim.lr_scheduler.ExponentialLR(optimizer, 0.5).at(3)
        [0.125]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self._need(gamma >= 0, "gamma >= 0", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Base gamma^t."""
        return base * self.gamma**t


class PolynomialLR(LRScheduler):
    """lr = base (1 - min(t, T) / T)^power.

    Args:
        optimizer: Whose rates to set.
        total_iters: T, the steps until it is 0, >= 1.
        power: 1 is a line; >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> fn.optim.lr_scheduler.PolynomialLR(optimizer, 4, power=2.0).at(2)
        [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self._need(total_iters >= 1, "total_iters >= 1", total_iters)
        self._need(power >= 0, "power >= 0", power)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """A power of the share that is left."""
        return base * math.pow(max(0.0, 1 - t / self.total_iters), self.power)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2.

    It is eta_min at T_max, and rises again afterwards, as in torch.

    Args:
        optimizer: Whose rates to set.
        T_max: Steps from the top to the bottom, >= 1.
        eta_min: The bottom, >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        >>> scheduler.at(0), scheduler.at(10)
        ([1.0], [0.0])

    Source:
        Loshchilov, Hutter 2017, "SGDR: stochastic gradient descent with warm restarts".
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self._need(T_max >= 1, "T_max >= 1", T_max)
        self._need(eta_min >= 0, "eta_min >= 0", eta_min)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """On the cosine."""
        return cosine(base, self.eta_min, t / self.T_max)


class InverseSqrtLR(LRScheduler):
    """lr = base min(n / w, sqrt(w / n)), n = t + 1: up to base in w steps, then down as 1/sqrt(n).

    w = 1 is base / sqrt(n). The Transformer's d^-0.5 min(n^-0.5, n w^-1.5) is that with
    base = (d w)^-0.5.

    Args:
        optimizer: Whose rates to set.
        warmup_iters: w, >= 1.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If warmup_iters is less than 1.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.InverseSqrtLR(optimizer, warmup_iters=4)
        >>> [scheduler.at(t)[0] for t in (0, 1, 3, 15)]
        [0.25, 0.5, 1.0, 0.5]

    Source:
        Vaswani et al. 2017, "Attention is all you need".
    """

    def __init__(self, optimizer: Optimizer, warmup_iters: int = 1, last_epoch: int = -1) -> None:
        self._need(warmup_iters >= 1, "warmup_iters >= 1", warmup_iters)
        self.warmup_iters = warmup_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Up, then down."""
        n, w = t + 1, self.warmup_iters
        return base * min(n / w, math.sqrt(w / n))


class InverseTimeLR(LRScheduler):
    """lr = base / (1 + decay t): with decay 1, base / n for n = 1, 2, ...

    Such rates sum to infinity and their squares do not, which is what stochastic approximation
    needs to converge.

    Args:
        optimizer: Whose rates to set.
        decay: >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If decay is negative.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> fn.optim.lr_scheduler.InverseTimeLR(optimizer).at(3)
        [0.25]

    Source:
        Robbins, Monro 1951, "A stochastic approximation method".
    """

    def __init__(self, optimizer: Optimizer, decay: float = 1.0, last_epoch: int = -1) -> None:
        self._need(decay >= 0, "decay >= 0", decay)
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """On the hyperbola."""
        return base / (1 + self.decay * t)


def cosine(top: float, bottom: float, share: float) -> float:
    """From top at share 0 to bottom at share 1."""
    return bottom + (top - bottom) * (1 + math.cos(math.pi * share)) / 2
