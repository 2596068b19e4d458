"""LRScheduler: a learning rate, perhaps a momentum, for each step count, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastnn._checks import Checked
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.options import momentum_of, set_momentum

__all__ = ["LRScheduler", "LambdaLR"]


class OptimizerRates(Checked):
    """What all that sets an optimizer's rates shares."""

    optimizer: Optimizer

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _need(self, ok: bool, rule: str, got: Any) -> None:
        if not ok:
            raise ValueError(f"{type(self).__name__}: expected {rule}, got {got}")


class LRScheduler(OptimizerRates):
    """Base of the schedules: override :meth:`lr_at`, and :meth:`momentum_at` if it moves too.

    The rate a schedule starts from is that of the group when its first scheduler was made, kept as
    ``group["initial_lr"]``, so that schedulers of one optimizer compose. Making one sets the rates
    of step 0; call :meth:`step` after each optimizer step, or after each epoch.

    Args:
        optimizer: Whose rates to set.
        last_epoch: The count before the first step; -1 to start.

    Attributes:
        last_epoch: How often it has stepped. (torch's name; whether these are epochs or batches is
            up to the caller.)
        base_lrs: The rate of each group to start from.

    Raises:
        ValueError: If last_epoch is not -1 and the groups have no ``"initial_lr"``.
        TypeError: If an argument is of another kind, such as a text for a number.

    Example:
        >>> import fastnn as fn
        >>> class Halved(fn.optim.lr_scheduler.LRScheduler):
        ...     def lr_at(self, t, base, group):
        ...         return base / 2 if t >= 1 else base
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> scheduler = Halved(optimizer)
        >>> scheduler.step()
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            self._need("initial_lr" in group, f"'initial_lr' in group {i} to go on", "none")
        self.optimizer = optimizer
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def lr_at(self, t: int, base: float, group: int) -> float:
        """The rate at step t >= 0 of a group that starts from base; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}: expected a lr_at method")

    def momentum_at(self, t: int, group: int) -> float | None:
        """The momentum (of Adam and its like, the first beta) at step t; None: it stays."""
        return None

    def at(self, t: int) -> list[float]:
        """The rate of each group at step t; changes nothing.

        Example:
            >>> import fastnn as fn
            >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
            >>> fn.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.5).at(20)
            [0.125]
        """
        return [float(self.lr_at(t, base, i)) for i, base in enumerate(self.base_lrs)]

    def step(self, steps: int = 1) -> None:
        """Count on, and set the rates of the groups."""
        self.last_epoch += steps
        groups = self.optimizer.param_groups
        for group, (lr, momentum) in zip(groups, next(self.table(1)), strict=True):
            group["lr"] = lr
            if momentum != momentum_of(group):
                set_momentum(group, momentum)

    def table(self, steps: int) -> Iterator[list[tuple[float, float]]]:
        """(rate, momentum) of each group, for so many steps from here on; changes nothing."""
        momenta = [momentum_of(group) for group in self.optimizer.param_groups]
        for t in range(self.last_epoch, self.last_epoch + steps):
            new = [self.momentum_at(t, i) for i in range(len(momenta))]
            momenta = [old if m is None else m for old, m in zip(momenta, new, strict=True)]
            yield list(zip(self.at(t), momenta, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Where it is; what it does is given by its arguments."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, and set the rates.

        Raises:
            ValueError: If it is of another number of groups, or no such state; nothing is changed.

        Example:
            >>> import fastnn as fn
            >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
            >>> scheduler = fn.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            >>> scheduler.load_state_dict({"last_epoch": 2, "base_lrs": [1.0]})
            >>> scheduler.get_last_lr()
            [0.25]
        """
        count, rates = state.get("last_epoch"), state.get("base_lrs")
        groups = len(self.base_lrs)
        self._need(is_count(count), "a last_epoch >= 0", count)
        valid = isinstance(rates, list) and len(rates) == groups and all(map(is_rate, rates))
        self._need(valid, f"base_lrs of {groups} groups", str(rates)[:80])
        t, bases = int(count), [float(lr) for lr in rates]  # type: ignore[arg-type, union-attr]
        for i, base in enumerate(bases):
            self.lr_at(t, base, i)  # so far nothing is changed
        self.last_epoch, self.base_lrs = t, bases
        self.step(0)


class LambdaLR(LRScheduler):
    """lr = base f(t), for any function of the step count.

    Args:
        optimizer: Whose rates to set.
        lr_lambda: The function, or one for each group.
        last_epoch: See :class:`LRScheduler`.

    Raises:
        ValueError: If there is not one function for each group.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> fn.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t).at(3)
        [0.0625]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = per_group(self, "lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """base f(t)."""
        return base * float(self.lr_lambdas[group](t))


def per_group(scheduler: OptimizerRates, name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each group: those given, or the one for all."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    scheduler._need(len(value) == groups, f"{name} for {groups} groups", f"{len(value)} values")
    return list(value)


def is_count(value: Any) -> bool:
    """Whether a saved value is a whole number that counts something."""
    return type(value) is int and 0 <= value < 1 << 62


def is_rate(value: Any) -> bool:
    """Whether a saved value is a learning rate."""
    return type(value) in (int, float) and 0 <= value < float("inf")
