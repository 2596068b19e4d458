"""A schedule as a plot, and a rate for another batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn._checks import checked
from fastnn.optim.lr_scheduler.base import LRScheduler

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot", "scale_lr"]


@checked
def plot(scheduler: LRScheduler, steps: int, axes: Axes | None = None) -> Axes:
    """Draw the rates of the first steps; needs matplotlib, but no display.

    Args:
        scheduler: The schedule; it stays where it is.
        steps: How many.
        axes: Where to draw; default: a figure of its own.

    Returns:
        The axes; ``axes.figure.savefig(path)`` writes the picture.

    Example:
        >>> import fastnn as fn
        >>> optimizer = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = fn.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> axes = fn.optim.lr_scheduler.plot(scheduler, 3)
        >>> axes.lines[0].get_ydata().tolist()
        [1.0, 0.5, 0.25]
    """
    axes = axes or new_axes()
    rates: Any = zip(*(scheduler.at(t) for t in range(steps)), strict=True)
    for i, values in enumerate(rates):
        axes.plot(range(steps), values, label=f"group {i}")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    if len(scheduler.base_lrs) > 1:
        axes.legend(frameon=False)
    return axes


@checked
def scale_lr(lr: float, base_batch_size: int, batch_size: int) -> float:
    """The linear scaling rule: lr batch_size / base_batch_size.

    It holds as far as the steps it replaces are alike: with a warm-up, and not for very large
    batches.

    Args:
        lr: A rate that is good for base_batch_size.
        base_batch_size: Samples per step that it is good for.
        batch_size: Samples per step now.

    Raises:
        ValueError: If a batch size is less than 1.

    Example:
        >>> import fastnn as fn
        >>> fn.optim.lr_scheduler.scale_lr(0.1, 256, 1024)
        0.4

    Source:
        Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour".
    """
    for name, size in (("base_batch_size", base_batch_size), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"scale_lr: expected {name} >= 1, got {size}")
    return lr * batch_size / base_batch_size


def new_axes() -> Axes:
    """Axes in a figure of their own, that no display needs to show."""
    from matplotlib.figure import Figure

    return Figure(figsize=(5, 3.6), dpi=110, layout="constrained").add_subplot()
