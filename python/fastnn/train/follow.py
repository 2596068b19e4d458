"""What a callback does inside every step: a hook of the optimizer, recorded with the update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.optim import Optimizer
from fastnn.train.callbacks import Callback

__all__ = ["StepCallback"]


class StepCallback(Callback):
    """Calls :meth:`on_step` after each update, inside the recorded step; it launches and no more.

    What it makes must last longer than a recording: make it before training. An optimizer that
    takes the place of another is followed from the next epoch on.
    """

    def __init__(self) -> None:
        self._hooked: Optimizer | None = None
        self._remove: Callable[[], None] | None = None

    def on_step(self, optimizer: Optimizer) -> None:
        """What to launch."""
        raise NotImplementedError

    def on_epoch_begin(self, epoch: int) -> None:
        """Follow the optimizer, which may be another than before."""
        if self._hooked is not self.trainer.optimizer:
            self._unhook()
            self._hooked = self.trainer.optimizer
            self._remove = self._hooked.register_step_post_hook(self._hook)

    def teardown(self) -> None:
        """Follow no more."""
        self._unhook()

    def _hook(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.on_step(optimizer)

    def _unhook(self) -> None:
        if self._remove is not None:
            self._remove()
        self._hooked = self._remove = None
