"""A fit while it runs: its epochs, steps, validation and callbacks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from fastnn import random
from fastnn.data.order import Indices, Sampler, epoch_order
from fastnn.tensor import no_grad
from fastnn.train.callbacks import Callback, Logs, averaged, notify, overrides
from fastnn.train.checks import evaluation_mode
from fastnn.train.epoch import Loop
from fastnn.train.history import History
from fastnn.train.metrics import measure
from fastnn.train.movement import Movement
from fastnn.train.progress import Progress

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["FailedStep", "Run", "evaluate"]


@dataclasses.dataclass(frozen=True)
class FailedStep:
    """A step with a loss or a gradient that is not finite: nothing has changed in it.

    Attributes:
        error: What the kernels found; its text says at which epoch and step.
        loop: The loop that is at the beginning of the step.
        generators: Those before the native call that the step was in.
        before: Steps of the same call before it.
    """

    error: ValueError
    loop: Loop
    generators: dict[str, list[int]]
    before: int


def evaluate(trainer: Trainer, loop: Loop) -> Logs:
    """Loss, its terms, accuracy and the trainer's metrics, in evaluation mode."""
    batches = loop.batches
    batches.start()
    with evaluation_mode(trainer.model), no_grad(), averaged(trainer):
        for _ in loop.run():
            pass
        ignored = getattr(trainer.objective.loss, "ignore_index", None)
        with trainer.precision.autocast():
            scores = measure(trainer.meters, trainer.model, batches.inputs(), batches.y, ignored)
    return {**batches.logs(), **scores}


@dataclasses.dataclass
class Run:
    """What a fit needs while it runs.

    Args:
        trainer: The Trainer, whose position says where the fit begins.
        train: The loop that trains.
        evaluation: The loop that measures after each epoch, or None.
        callbacks: To be told.
        progress: To be shown.
        shuffle: Whether an epoch has an order of its own, or what makes it.
        check_interrupt: Raises between two steps after a signal.
        history: To be filled.
    """

    trainer: Trainer
    train: Loop
    evaluation: Loop | None
    callbacks: Sequence[Callback]
    progress: Progress
    shuffle: bool | Sampler
    check_interrupt: Callable[[], None]
    history: History

    def until(self, epochs: int) -> History:
        """Train until so many epochs are done, or a callback stops it."""
        history, trainer = self.history, self.trainer
        position = trainer.position
        notify(self.callbacks, "on_train_begin")
        movement = Movement(trainer.model) if position.epoch == position.done == 0 else None
        if movement is not None:
            history.moved, history.gains = movement.ratios, movement.gains
        while position.epoch < epochs and not trainer.stop_training:
            epoch = position.epoch
            notify(self.callbacks, "on_epoch_begin", epoch)
            order = epoch_order("fit", self.shuffle, position.samples, position.seed, epoch)
            logs = self._epoch(order)
            if logs is None:  # a callback made an end of a step that failed
                break
            logs.update(self._validation(epoch))
            position.next_epoch()
            if movement is not None:
                movement.measure(position.epoch)
            trainer.schedule.end_epoch(logs)
            history.append(epoch, logs)
            self.progress.epoch_end(epoch, logs)
            notify(self.callbacks, "on_epoch_end", epoch, logs)
            self.check_interrupt()
        notify(self.callbacks, "on_train_end")
        return history

    def _validation(self, epoch: int) -> Logs:
        if self.evaluation is None:
            return {}
        notify(self.callbacks, "on_test_begin")
        try:
            values = evaluate(self.trainer, self.evaluation)
        except ValueError as error:
            told = ValueError(f"fit: epoch {epoch + 1}, validation: {error}")
            self.history.error = str(told)
            raise told from error
        notify(self.callbacks, "on_test_end", values)
        return {f"val_{name}": value for name, value in values.items()}

    def _epoch(self, order: Indices | None) -> Logs | None:
        """Run the training steps of an epoch, from where the position is; returns the logs."""
        position, loop, schedule = self.trainer.position, self.train, self.trainer.schedule
        batches, rows, first = loop.batches, loop.batch_size, position.done
        batches.start(order, first, position.skipped, position.sums)
        batches.draw(position.seed, position.epoch)
        schedule.begin_epoch(-(-first // rows), -(-batches.samples // rows))
        begins, ends = (overrides(self.callbacks, f"on_train_batch_{w}") for w in ("begin", "end"))
        steps = loop.run(max_steps=1 if begins or ends else None)
        start = time.perf_counter()
        try:
            while batches.done < batches.samples:
                if begins:
                    notify(self.callbacks, "on_train_batch_begin", batches.done // rows)
                done = self._advance(steps)
                if done is None:
                    return None
                position.done = done
                if self.history.first_loss is None and position.epoch == 0 and first == 0:
                    self.history.first_loss = batches.logs()["loss"]  # each loop begins with 1 step
                self.progress.batch(position.epoch, done)
                schedule.reach(-(-done // rows))
                if ends:
                    notify(self.callbacks, "on_train_batch_end", (done - 1) // rows, batches.logs())
                self.check_interrupt()
        finally:  # a checkpoint may follow, whatever happened
            schedule.reach(-(-batches.done // rows))
            position.done, position.skipped = batches.done, batches.skipped
            position.sums = batches.sums()
        seconds = max(time.perf_counter() - start, 1e-9)
        return {
            **batches.logs(position.sums),
            "lr": schedule.last_lr(self.trainer.optimizer),
            "seconds": seconds,
            "samples_per_s": (batches.done - first) / seconds,
        }

    def _advance(self, steps: Iterator[int]) -> int | None:
        """Make the next native call; says where in the data an error was.

        None if a callback takes the error for an end.
        """
        watched = overrides(self.callbacks, "on_train_error")
        before = random.get_state() if watched else {}
        loop, first = self.train, self.train.batches.done
        try:
            return next(steps)
        except ValueError as error:
            loop.batches.skip()
            rows = loop.batch_size
            step = loop.batches.done // rows + 1
            told = ValueError(f"fit: epoch {self.trainer.epoch + 1}, step {step}: {error}")
            failed = FailedStep(told, loop, before, (loop.batches.done - first) // rows)
            self.history.error = str(told)
            if any(c.on_train_error(failed) for c in self.callbacks):
                return None
            raise told from error
