"""Schedules that go up and down: restarts, cycles, one cycle.

Cycles move the momentum against the rate: large steps need less of it (Smith 2018, "A disciplined
approach to neural network hyper-parameters").
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from fastnn.optim.lr_scheduler.base import LRScheduler, per_group
from fastnn.optim.lr_scheduler.decay import cosine
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.options import has_momentum

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]

_MODES: dict[str, Callable[[float, int, int], float]] = {
    "triangular": lambda gamma, cycle, t: 1.0,
    "triangular2": lambda gamma, cycle, t: 0.5 ** (cycle - 1),
    "exp_range": lambda gamma, cycle, t: gamma**t,
}
_ANNEALING: dict[str, Callable[[float, float, float], float]] = {
    "cos": cosine,
    "linear": lambda start, end, share: start + (end - start) * share,
}


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(pi s / T_i)) / 2, s steps after the last restart.

    The first cosine has T_0 steps, each other T_mult times as many as the one before.

    Args:
        optimizer: Whose rates to set.
        T_0: Steps of the first cosine, >= 1.
        T_mult: A whole number >= 1.
        eta_min: The bottom, >= 0.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, T_mult=2)
        >>> [round(scheduler.at(t)[0], 3) for t in (0, 9, 10, 20, 30)]
        [1.0, 0.024, 1.0, 0.5, 1.0]

    Source:
        Loshchilov, Hutter 2017, "SGDR: stochastic gradient descent with warm restarts".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self._need(T_0 >= 1, "T_0 >= 1", T_0)
        self._need(T_mult >= 1, "T_mult >= 1", T_mult)
        self._need(eta_min >= 0, "eta_min >= 0", eta_min)
        self.T_0, self.T_mult, self.eta_min = T_0, int(T_mult), eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """On the cosine since the last restart."""
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.T_mult
        return cosine(base, self.eta_min, t / length)


class _Cycle(LRScheduler):
    """What both cycles share: a range of momentum for each group, or none."""

    momenta: list[tuple[float, float]]  # (base, max) of each group; empty if it stays

    def _cycle(self, optimizer: Optimizer, cycles: bool, base: Any, top: Any) -> None:
        self.momenta = []
        if not cycles:
            return
        if not all(map(has_momentum, optimizer.param_groups)):
            rule = f"cycle_momentum False with {type(optimizer).__name__}, which has no momentum"
            self._need(False, rule, True)
        bases = per_group(self, "base_momentum", optimizer, base)
        tops = per_group(self, "max_momentum", optimizer, top)
        for low, high in zip(bases, tops, strict=True):
            rule = "0 < base_momentum <= max_momentum < 1"
            self._need(0 < low <= high < 1, rule, f"{low} and {high}")
        self.momenta = list(zip(bases, tops, strict=True))


class CyclicLR(_Cycle):
    """lr = base_lr + (max_lr - base_lr) height scale: a line up, a line down, again and again.

    momentum = max_momentum - (max_momentum - base_momentum) height scale; of Adam and its like it
    is the first beta.

    Args:
        optimizer: Whose rates to set.
        base_lr: The bottom, for all groups or a list of one for each.
        max_lr: The top, likewise.
        step_size_up: Steps from the bottom to the top, >= 1.
        step_size_down: Steps back; default: as many.
        mode: Scale of the n-th cycle: ``"triangular"`` 1, ``"triangular2"`` 0.5^(n - 1),
            ``"exp_range"`` gamma^t.
        gamma: Of exp_range.
        scale_fn: A function to take instead of a mode.
        scale_mode: Whether scale_fn takes the ``"cycle"``, from 1, or the number of
            ``"iterations"``.
        cycle_momentum: Whether the momentum moves too.
        base_momentum: Its bottom, where the rate is at its top; for all groups or one for each.
        max_momentum: Its top, likewise.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range, or the optimizer has no momentum to cycle.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)])
        >>> scheduler = fn.optim.lr_scheduler.CyclicLR(optimizer, 0.25, 0.75, step_size_up=4)
        >>> [scheduler.at(t)[0] for t in (0, 2, 4, 6, 8)]
        [0.25, 0.5, 0.75, 0.5, 0.25]
        >>> [round(scheduler.momentum_at(t, 0), 3) for t in (0, 2, 4, 6, 8)]
        [0.9, 0.85, 0.8, 0.85, 0.9]

    Source:
        Smith 2017, "Cyclical learning rates for training neural networks".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        down = step_size_up if step_size_down is None else step_size_down
        self._need(step_size_up >= 1, "step_size_up >= 1", step_size_up)
        self._need(down >= 1, "step_size_down >= 1", down)
        choices = ", ".join(map(repr, _MODES))
        self._need(mode in _MODES, f"mode to be one of {choices}", repr(mode))
        scale_modes = ("cycle", "iterations")
        self._need(
            scale_mode in scale_modes, "scale_mode 'cycle' or 'iterations'", repr(scale_mode)
        )
        self._cycle(optimizer, cycle_momentum, base_momentum, max_momentum)
        self.bottoms = per_group(self, "base_lr", optimizer, base_lr)
        self.max_lrs = per_group(self, "max_lr", optimizer, max_lr)
        self.step_size_up, self.step_size_down = step_size_up, down
        self.mode, self.gamma = mode, gamma
        self.scale_fn, self.scale_mode = scale_fn, scale_mode
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """On the way up or down."""
        bottom = self.bottoms[group]
        return float(bottom + (self.max_lrs[group] - bottom) * self._share(t))

    def momentum_at(self, t: int, group: int) -> float | None:
        """On the way down or up."""
        if not self.momenta:
            return None
        low, high = self.momenta[group]
        return high - (high - low) * self._share(t)

    def _share(self, t: int) -> float:
        """Height times scale."""
        up, down = self.step_size_up, self.step_size_down
        cycle, place = 1 + t // (up + down), t % (up + down)
        height = place / up if place <= up else (up + down - place) / down
        if self.scale_fn is not None:
            scale = self.scale_fn(cycle if self.scale_mode == "cycle" else t)
        else:
            scale = _MODES[self.mode](self.gamma, cycle, t)
        return float(height * scale)


class OneCycleLR(_Cycle):
    """From max_lr / div_factor up to max_lr, and down to much less than at the start; per batch.

    The momentum (of Adam and its like, the first beta) goes from max_momentum down to base_momentum
    and back. After the last step both stay.

    Args:
        optimizer: Whose rates to set.
        max_lr: The top, for all groups or a list of one for each.
        total_steps: Number of steps, or give the next two.
        epochs: Epochs of the training.
        steps_per_epoch: Steps in each.
        pct_start: Share of the steps on the way up, in [0, 1].
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: Whether the momentum moves too.
        base_momentum: Its bottom, where the rate is at its top; for all groups or one for each.
        max_momentum: Its top, likewise.
        div_factor: The first rate is max_lr / div_factor.
        final_div_factor: The last rate is the first / final_div_factor.
        three_phase: Go down to the first rate in as many steps as up, and then to the last;
            otherwise down to the last at once.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If an argument is out of range, the number of steps is not given, or the
            optimizer has no momentum to cycle.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)])
        >>> scheduler = fn.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=100)
        >>> [round(scheduler.at(t)[0], 6) for t in (0, 29, 99)]
        [0.04, 1.0, 4e-06]
        >>> [round(scheduler.momentum_at(t, 0), 6) for t in (0, 29, 99)]
        [0.95, 0.85, 0.95]

    Source:
        Smith, Topin 2019, "Super-convergence: very fast training of neural networks using large
        learning rates".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        self._need(total_steps is not None, "total_steps, or epochs and steps_per_epoch", "neither")
        assert total_steps is not None
        self._need(total_steps >= 1, "total_steps >= 1", total_steps)
        self._need(0 <= pct_start <= 1, "0 <= pct_start <= 1", pct_start)
        strategies = "anneal_strategy 'cos' or 'linear'"
        self._need(anneal_strategy in _ANNEALING, strategies, repr(anneal_strategy))
        self._cycle(optimizer, cycle_momentum, base_momentum, max_momentum)
        self._need(div_factor > 0, "div_factor > 0", div_factor)
        self._need(final_div_factor > 0, "final_div_factor > 0", final_div_factor)
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.max_lrs = per_group(self, "max_lr", optimizer, max_lr)
        top, last = pct_start * total_steps - 1, float(total_steps - 1)
        # (last step, what is before, what is after); of rates shares of max_lr, and of momentum how
        # far it is on its way from the top to the bottom
        first, final = 1 / div_factor, 1 / div_factor / final_div_factor
        start, summit, end = (first, 0.0), (1.0, 1.0), (final, 0.0)
        if three_phase:
            back = 2 * pct_start * total_steps - 2
            phases = [(top, start, summit), (back, summit, start), (last, start, end)]
        else:
            phases = [(top, start, summit), (last, summit, end)]
        self.phases = phases
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """In the phase that step t is in."""
        return float(self.max_lrs[group] * self._place(t, 0))

    def momentum_at(self, t: int, group: int) -> float | None:
        """Likewise."""
        if not self.momenta:
            return None
        low, high = self.momenta[group]
        return high + (low - high) * self._place(t, 1)

    def _place(self, t: int, which: int) -> float:
        ends = [end for end, _, _ in self.phases]
        i = min(bisect_left(ends, t), len(ends) - 1)
        begin = ends[i - 1] if i else 0.0
        end, before, after = self.phases[i]
        share = min((t - begin) / (end - begin), 1.0) if end > begin else 1.0
        return _ANNEALING[self.anneal_strategy](before[which], after[which], share)
