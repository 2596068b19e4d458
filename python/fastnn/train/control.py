"""Callbacks that steer a training, with Keras' names and arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.optim import lr_scheduler
from fastnn.tensor import Tensor
from fastnn.train.callbacks import Best, Callback, Logs, averaged, monitored

__all__ = ["EarlyStopping", "LearningRateScheduler", "ReduceLROnPlateau", "StopAtZeroErrors"]


class EarlyStopping(Callback):
    """Stop when a quantity has not improved for patience epochs; keep the best weights.

    One worse epoch is noise: give some patience.

    Args:
        monitor: The quantity.
        min_delta: By how much a value has to be better to count.
        patience: Epochs without improvement, after which training stops.
        mode: ``"min"``, ``"max"`` or ``"auto"``: larger is better for accuracies and other scores.
        restore_best_weights: Whether the model gets the weights of its best epoch at the end (with
            an :class:`fastnn.train.EMA`, their averages).
        start_from_epoch: Epochs that are not looked at.

    Attributes:
        stopped_epoch: The epoch after which it stopped, None if it did not.
        best_epoch: The best epoch, None at first.

    Raises:
        ValueError: If an argument is out of range; at the end of an epoch without the quantity.

    Example:
        >>> import fastnn as fn
        >>> stop = fn.train.EarlyStopping(patience=5, restore_best_weights=True)

    Source:
        Prechelt 1998, "Early stopping - but when?".
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        if patience < 0:
            raise ValueError(f"EarlyStopping: expected patience >= 0, got {patience}")
        self.best = Best(monitor, min_delta, mode)
        self.patience, self.start_from_epoch = patience, start_from_epoch
        self.restore_best_weights = restore_best_weights
        self.reset()

    def reset(self) -> None:
        """No epoch is the best so far."""
        self.best.value = None
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.best_epoch: int | None = None
        self._weights: dict[str, Tensor] = {}

    def on_train_begin(self) -> None:
        """Where it had stopped before, do not go on."""
        self.trainer.stop_training |= self.stopped_epoch is not None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Remember the best, or lose patience."""
        value = monitored(self, logs, self.best.monitor)
        if epoch < self.start_from_epoch:
            return
        if self.best.improves(value):
            self.wait, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                with averaged(self.trainer):
                    state = self.trainer.model.state_dict()
                    self._weights = {name: v.clone() for name, v in state.items()}
            return
        self.wait += 1
        if self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self) -> None:
        """Give the model its best weights."""
        if self._weights:
            self.trainer.model.load_state_dict(self._weights)
            self.trainer.ema = None  # what the model holds now is what to evaluate

    def state_dict(self) -> dict[str, Any]:
        """The best value, its epoch and weights, and how long it has waited."""
        names = ("wait", "stopped_epoch", "best_epoch")
        counts = {name: getattr(self, name) for name in names}
        weights = {f"weights.{name}": v for name, v in self._weights.items()}
        return {**self.best.state_dict(), **counts, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is no such state, or of another model.
        """
        counts = {name: state.get(name) for name in ("wait", "stopped_epoch", "best_epoch")}
        for name, value in counts.items():
            optional = value is None and name != "wait"
            if not optional and (type(value) is not int or value < 0):
                raise ValueError(f"EarlyStopping: expected {name} >= 0, got {str(value)[:80]}")
        weights = {k.removeprefix("weights."): v for k, v in state.items() if isinstance(v, Tensor)}
        own = {k: (v.shape, v.dtype) for k, v in self.trainer.model.state_dict().items()}
        if weights and {k: (v.shape, v.dtype) for k, v in weights.items()} != own:
            raise ValueError("EarlyStopping: expected weights of this model, got others")
        self.best.load_state_dict(state)
        vars(self).update(counts, _weights=weights)


class StopAtZeroErrors(Callback):
    """Stop when no answer of a whole epoch was wrong, as the perceptron's rule does by itself.

    Args:
        monitor: The accuracy that has to be 1.
        patience: Epochs in a row that it has to be.

    Attributes:
        stopped_epoch: The epoch after which it stopped, None if it did not.

    Raises:
        ValueError: If patience is less than 1; at the end of an epoch without the quantity.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=1.0)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> stop = fn.train.StopAtZeroErrors()
        >>> history = trainer.fit(np.eye(2), [0, 1], epochs=100, callbacks=[stop], verbose=0)
        >>> len(history.epoch) < 10
        True

    Source:
        Rosenblatt 1958, "The perceptron".
    """

    def __init__(self, monitor: str = "accuracy", patience: int = 1) -> None:
        if patience < 1:
            raise ValueError(f"StopAtZeroErrors: expected patience >= 1, got {patience}")
        self.monitor, self.patience = monitor, patience
        self.reset()

    def reset(self) -> None:
        """No epoch was without errors so far."""
        self.wait = 0
        self.stopped_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Count, and stop if it is time."""
        self.wait = self.wait + 1 if monitored(self, logs, self.monitor) >= 1.0 else 0
        if self.wait >= self.patience:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def state_dict(self) -> dict[str, Any]:
        """How many epochs in a row."""
        return {"wait": self.wait}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        wait = state.get("wait")
        if type(wait) is not int or wait < 0:
            raise ValueError(f"StopAtZeroErrors: expected wait >= 0, got {str(wait)[:80]}")
        self.wait = wait


class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a quantity has not improved for patience epochs.

    :class:`fastnn.optim.lr_scheduler.ReduceLROnPlateau` with Keras' way to count: the rate drops
    after patience epochs, not patience + 1.

    Args:
        monitor: The quantity.
        factor: In [0, 1).
        patience: Epochs without improvement.
        mode: ``"min"``, ``"max"`` or ``"auto"``: larger is better for accuracies and other scores.
        min_delta: By how much a value has to be better to count.
        cooldown: Epochs after a drop that are not counted, the drop's own among them.
        min_lr: Lower bound.

    Raises:
        ValueError: If an argument is out of range; at the end of an epoch without the quantity.

    Example:
        >>> import fastnn as fn
        >>> plateau = fn.train.ReduceLROnPlateau(factor=0.5, patience=3)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.monitor, self.mode = monitor, Best(monitor, min_delta, mode).mode
        for name, value in (("patience", patience), ("cooldown", cooldown), ("min_lr", min_lr)):
            if not value >= 0:
                raise ValueError(f"ReduceLROnPlateau: expected {name} >= 0, got {value}")
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: expected 0 <= factor < 1, got {factor}")
        self.factor, self.min_delta, self.min_lr = factor, min_delta, min_lr
        self.patience, self.cooldown = max(patience, 1) - 1, max(cooldown, 1) - 1
        self._scheduler: lr_scheduler.ReduceLROnPlateau | None = None

    def reset(self) -> None:
        """No epoch is the best so far."""
        self._scheduler = None

    def _current(self) -> lr_scheduler.ReduceLROnPlateau:
        """The scheduler, of the optimizer that the trainer has now."""
        if self._scheduler is None:
            self._scheduler = lr_scheduler.ReduceLROnPlateau(
                self.trainer.optimizer,
                self.mode,
                self.factor,
                self.patience,
                threshold=self.min_delta,
                threshold_mode="abs",
                cooldown=self.cooldown,
                min_lr=self.min_lr,
                eps=0.0,
            )
        self._scheduler.optimizer = self.trainer.optimizer
        return self._scheduler

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Count, and lower the rate if it is time."""
        self._current().step(monitored(self, logs, self.monitor))

    def state_dict(self) -> dict[str, Any]:
        """The best value, and what is counted."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self._current().load_state_dict(state)


class LearningRateScheduler(Callback):
    """Set the learning rates before each epoch: lr = schedule(epoch, lr).

    Args:
        schedule: Function of the epoch, from 0, and of the rate so far; called for each group.

    Raises:
        ValueError: Before an epoch whose rate is negative or not finite.

    Example:
        >>> import fastnn as fn
        >>> halve = fn.train.LearningRateScheduler(lambda epoch, lr: lr / 2 if epoch else lr)
    """

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self.schedule = schedule
        self._epoch = -1  # the last one it was called for: a resumed epoch begins once only

    def reset(self) -> None:
        """Begin again."""
        self._epoch = -1

    def on_epoch_begin(self, epoch: int) -> None:
        """Set the rates."""
        if epoch == self._epoch:
            return
        groups = self.trainer.optimizer.param_groups
        rates = [float(self.schedule(epoch, group["lr"])) for group in groups]
        for lr in rates:
            if not 0 <= lr < float("inf"):
                raise ValueError(f"LearningRateScheduler: expected a finite lr >= 0, got {lr}")
        for group, lr in zip(groups, rates, strict=True):
            group["lr"] = lr
        self._epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """The last epoch begun."""
        return {"epoch": self._epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after it."""
        epoch = state.get("epoch")
        if type(epoch) is not int:
            raise ValueError(
                f"LearningRateScheduler: expected a whole number epoch, got {str(epoch)[:80]}"
            )
        self._epoch = epoch
