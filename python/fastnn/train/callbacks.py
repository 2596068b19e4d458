"""Callbacks, with Keras' hooks. One that has on_train_batch_* costs a native call per batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn._checks import Checked

if TYPE_CHECKING:
    from fastnn.train.run import FailedStep
    from fastnn.train.trainer import Trainer

__all__ = ["Best", "Callback", "Logs"]

Logs = dict[str, float]


class Callback(Checked):
    """Base of callbacks: override what is needed.

    Attributes:
        trainer: The Trainer; ``trainer.stop_training = True`` ends training after this epoch.

    Example:
        >>> import fastnn as fn
        >>> class Stop(fn.train.Callback):
        ...     def on_epoch_end(self, epoch, logs):
        ...         self.trainer.stop_training = logs["loss"] < 0.1
    """

    trainer: Trainer

    def set_trainer(self, trainer: Trainer) -> None:
        """Called by fit, first of all."""
        self.trainer = trainer

    def wants(self, hook: str) -> bool:
        """Whether a hook has to be called; default: if the class has one of its own."""
        return getattr(type(self), hook) is not getattr(Callback, hook)

    def reset(self) -> None:
        """Forget what an earlier training left: called by a fit that does not go on."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: JSON-like values and Tensors, by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; a ValueError says that it is no such."""

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch; not after an error."""

    def teardown(self) -> None:
        """At the end of fit, whatever happened: take off what hangs on others, close what is open.

        The name is Lightning's. It comes after on_train_end, and after an error or Ctrl-C instead.
        """

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation, with what History gets."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Before a step, whose number in the epoch is ``batch``."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step, with the means over the epoch so far."""

    def on_test_begin(self) -> None:
        """Before the validation of an epoch."""

    def on_test_end(self, logs: Logs) -> None:
        """After it, with what it measured; the names have no ``val_`` here."""

    def on_train_error(self, failed: FailedStep) -> bool:
        """After a step whose loss or gradient is not finite.

        Whether to end the training in order, rather than raise.
        """
        return False


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError unless it is a sequence of callbacks."""
    items = callbacks if isinstance(callbacks, Sequence) else [callbacks]
    if items is not callbacks or not all(isinstance(c, Callback) for c in items):
        names = ", ".join(type(c).__name__ for c in items)
        got = f"[{names}]" if items is callbacks else names
        raise TypeError(f"fit: expected a list of Callbacks, got {got}")


def attach(
    callbacks: Sequence[Callback], trainer: Trainer, saved: Mapping[str, Any] | None
) -> None:
    """Make the callbacks the trainer's: as they are, with the states saved, or (None) as new."""
    trainer.ema = None
    for i, callback in enumerate(callbacks):
        callback.set_trainer(trainer)
        name = f"callback {i} {type(callback).__name__}"
        if saved is None:
            callback.reset()
        elif name in saved:
            callback.load_state_dict(saved[name])


def notify(callbacks: Sequence[Callback], hook: str, *args: Any) -> None:
    """Call a hook of all."""
    for callback in callbacks:
        getattr(callback, hook)(*args)


@contextlib.contextmanager
def torn_down(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Afterwards every callback is torn down, though another's teardown raises."""
    with contextlib.ExitStack() as stack:
        for callback in callbacks:
            stack.callback(callback.teardown)
        yield


def averaged(trainer: Trainer) -> contextlib.AbstractContextManager[None]:
    """Inside, the trainer's model has the averages of an EMA, if there is one."""
    return contextlib.nullcontext() if trainer.ema is None else trainer.ema.applied()


def overrides(callbacks: Sequence[Callback], hook: str) -> bool:
    """Whether a callback has a hook of its own.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.callbacks import overrides
        >>> overrides([fn.train.Callback()], "on_train_batch_end")
        False
    """
    return any(c.wants(hook) for c in callbacks)


_LARGER_IS_BETTER = ("acc", "auc", "f1", "precision", "recall", "r2")
_MODES = ("auto", "min", "max")


class Best:
    """Whether a value is the best so far; NaN never is.

    Args:
        monitor: What the values are of.
        min_delta: By how much a value has to be better.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger; ``"auto"``: larger for
            accuracies and other scores, smaller for the rest.

    Example:
        >>> from fastnn.train.callbacks import Best
        >>> best = Best("val_accuracy")
        >>> best.improves(0.5), best.improves(0.4)
        (True, False)
    """

    def __init__(self, monitor: str, min_delta: float = 0.0, mode: str = "auto") -> None:
        if mode not in _MODES:
            raise ValueError(
                f"callback: expected mode to be one of {', '.join(map(repr, _MODES))}, got {mode!r}"
            )
        if not min_delta >= 0:
            raise ValueError(f"callback: expected min_delta >= 0, got {min_delta}")
        larger = any(name in monitor for name in _LARGER_IS_BETTER) if mode == "auto" else None
        self.monitor, self.min_delta = monitor, min_delta
        self.mode = mode if larger is None else ("max" if larger else "min")
        self.sign = 1.0 if self.mode == "max" else -1.0
        self.value: float | None = None

    def improves(self, value: float) -> bool:
        """Whether it does; if so, it is the best from now on."""
        if math.isnan(value):
            return False
        if self.value is not None and self.sign * (value - self.value) <= self.min_delta:
            return False
        self.value = value
        return True

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        value = state.get("best")
        if value is not None and type(value) is not float:
            raise ValueError(f"callback: expected a float best, got {str(value)[:80]}")
        self.value = value


def monitored(callback: Callback, logs: Logs, monitor: str) -> float:
    """The quantity that a callback watches."""
    if monitor not in logs:
        raise ValueError(
            f"{type(callback).__name__}: expected monitor to be one of {', '.join(logs)}, "
            f"got {monitor!r}"
        )
    return logs[monitor]
