"""What [schedule] of the configuration means for a training."""

from __future__ import annotations

from fastnn.cli.config import Config
from fastnn.optim import Optimizer, lr_scheduler
from fastnn.optim.lr_scheduler import LRScheduler
from fastnn.optim.options import momentum_of
from fastnn.train.schedule import Scheduler

__all__ = ["build_scheduler"]


def build_scheduler(
    config: Config, optimizer: Optimizer, samples: int
) -> tuple[Scheduler | None, str]:
    """The scheduler that the configuration names, or None, and when it steps.

    Raises:
        ValueError: If there is a warm-up where the schedule has none.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.cli.config import load
        >>> from fastnn.cli.schedule import build_scheduler
        >>> config = load(None, ["schedule.name=linear", "train.epochs=2", "train.batch_size=10"])
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler, interval = build_scheduler(config, optimizer, samples=20)
        >>> interval, [scheduler.at(t)[0] for t in range(5)]
        ('step', [1.0, 0.75, 0.5, 0.25, 0.0])
    """
    s = config.schedule
    rows = config.train.batch_size * config.train.accumulate_grad_batches
    steps = -(-samples // rows)  # in an epoch
    warmup = round(s.warmup * steps)
    rest = max(1, config.train.epochs * steps - warmup)
    if warmup and s.name in ("one_cycle", "plateau"):
        raise ValueError(f"schedule: expected warmup 0 with {s.name!r}, got {s.warmup}")
    if s.name == "plateau":
        return (
            lr_scheduler.ReduceLROnPlateau(optimizer, factor=s.gamma, patience=s.patience),
            "epoch",
        )
    scheduler: LRScheduler | None = None
    if s.name == "linear":
        scheduler = lr_scheduler.LinearLR(optimizer, 1.0, 0.0, rest)
    elif s.name == "cosine":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, rest)
    elif s.name == "step":
        milestones = [max(0, m * steps - warmup) for m in s.milestones]
        scheduler = lr_scheduler.MultiStepLR(optimizer, milestones, s.gamma)
    elif s.name == "exponential":
        scheduler = lr_scheduler.ExponentialLR(optimizer, s.gamma ** (1 / steps))
    elif s.name == "inverse_sqrt":
        return lr_scheduler.InverseSqrtLR(optimizer, max(1, warmup)), "step"
    elif s.name == "one_cycle":
        group = optimizer.param_groups[0]
        cycle = momentum_of(group) > 0  # a run without momentum gets none
        return lr_scheduler.OneCycleLR(optimizer, group["lr"], rest, cycle_momentum=cycle), "step"
    if warmup:
        scheduler = lr_scheduler.WarmupLR(optimizer, warmup, then=scheduler)
    return scheduler, "step"
