"""How a Trainer moves a scheduler: after each epoch, or with each step.

A schedule is a pure function of the step count, so the rates of a whole epoch, and the momentum
where it moves too, go into a table that recorded steps read: many steps still replay in one native
call.
"""

from __future__ import annotations

from fastnn.optim import Optimizer
from fastnn.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from fastnn.optim.rates import RateTable

__all__ = ["Schedule", "Scheduler"]

Scheduler = LRScheduler | ReduceLROnPlateau


class Schedule:
    """A scheduler, or none, and when it steps.

    Args:
        scheduler: The scheduler, of the Trainer's optimizer.
        optimizer: That optimizer.
        interval: ``"epoch"`` or ``"step"``.

    Raises:
        ValueError: If the scheduler is of another optimizer or cannot step so.
    """

    def __init__(self, scheduler: Scheduler | None, optimizer: Optimizer, interval: str) -> None:
        if interval not in ("epoch", "step"):
            raise ValueError(
                f"Trainer: expected scheduler_interval 'epoch' or 'step', got {interval!r}"
            )
        if not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau, type(None))):
            raise TypeError(
                "Trainer: expected scheduler to be a scheduler of fastnn.optim.lr_scheduler, got "
                f"{type(scheduler).__name__}"
            )
        if scheduler is not None and scheduler.optimizer is not optimizer:
            raise ValueError(
                "Trainer: expected a scheduler of the optimizer given, got another one's"
            )
        self.scheduler = scheduler
        self._steps: LRScheduler | None = None  # the scheduler, if it steps with each batch
        if interval == "step" and scheduler is not None:
            if not isinstance(scheduler, LRScheduler):
                raise ValueError(
                    f"Trainer: expected scheduler_interval 'epoch' with {type(scheduler).__name__},"
                    " got 'step'"
                )
            self._steps = scheduler
        self._start = 0  # the count at the first step of the epoch

    def begin(self, steps: int, device: str) -> None:
        """Before training, whose epochs have that many steps."""
        if self._steps is not None:
            groups = len(self._steps.base_lrs)
            self._steps.optimizer.table = RateTable(steps, groups, device)

    def begin_epoch(self, done: int, steps: int) -> None:
        """Before an epoch of that many steps, or after some of them."""
        if self._steps is not None and self._steps.optimizer.table is not None:
            self._start = self._steps.last_epoch - done
            self._steps.optimizer.table.write(self._steps.table(steps - done))

    def reach(self, done: int) -> None:
        """So many steps of the epoch are done."""
        if self._steps is not None:
            self._steps.step(self._start + done - self._steps.last_epoch)

    def last_lr(self, optimizer: Optimizer) -> float:
        """The rate of the last step done, of the first group."""
        if self._steps is not None and self._steps.last_epoch > 0:
            return self._steps.at(self._steps.last_epoch - 1)[0]
        return float(optimizer.param_groups[0]["lr"])

    def end_epoch(self, logs: dict[str, float]) -> None:
        """After an epoch and its validation."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(logs.get("val_loss", logs["loss"]))
        elif self.scheduler is not None and self._steps is None:
            self.scheduler.step()

    def end(self) -> None:
        """After training, whatever happened: the groups' rates count again."""
        if self._steps is not None:
            self._steps.optimizer.table = None
