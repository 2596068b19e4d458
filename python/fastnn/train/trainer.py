"""Trainer: fits a model on arrays. A step is recorded once and replayed (see epoch.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import F, _core, nn
from fastnn.data.augment import Augmentation, Compose
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor, no_grad
from fastnn.train import checkpoint
from fastnn.train.callbacks import Callback, attach, averaged, notify, wants_batches
from fastnn.train.checkpoint import Position
from fastnn.train.checks import Data, check_arguments, check_data, evaluation_mode, split
from fastnn.train.ema import EMA
from fastnn.train.epoch import Batches, Body, Loop, Switch, structure
from fastnn.train.history import History
from fastnn.train.interrupt import between_steps
from fastnn.train.metrics import Metric, measure
from fastnn.train.progress import Progress, make_progress
from fastnn.train.sampler import Sampler, epoch_order
from fastnn.train.schedule import Schedule, Scheduler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

__all__ = ["History", "Trainer"]

Pair = tuple["ArrayLike | Tensor", "ArrayLike | Tensor"]
_EVALUATION_BATCH = 1024


class Trainer:
    """Fits a model, with Keras' arguments.

    Args:
        model: The model; the optimizer holds its parameters.
        loss: Function of (outputs, y) that returns a scalar Tensor: a mean over the batch, or a sum
            if it has ``reduction == "sum"``.
        optimizer: Updates the model.
        metrics: ``("accuracy",)`` or ``()``; default: the accuracy where y holds class indices.
            Besides, any of :mod:`fastnn.train.metrics`: computed in evaluation.
        max_grad_norm: Clip the gradients' common norm to this.
        scheduler: Sets that optimizer's learning rates, not those of one that a callback brings.
            ReduceLROnPlateau watches the validation loss, or the loss where there is none.
        scheduler_interval: Whether it steps after each ``"epoch"`` or after each ``"step"``.
        capture: Record the step and replay it. The bits are the same without, the speed is not.

    Attributes:
        stop_training: Set it in a callback to stop after the epoch.
        epoch: Whole epochs done.
        ema: The :class:`fastnn.train.EMA` among the callbacks, or None: what evaluation measures.

    Raises:
        ValueError: If the optimizer has other parameters than the model, or an argument is wrong.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 8), fn.nn.ReLU(), fn.nn.Linear(8, 2))
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), fn.optim.Adam(model.parameters()))
        >>> x = np.random.default_rng(0).normal(size=(64, 2))
        >>> history = trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=2, verbose=0)
        >>> len(history.history["loss"])
        2
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Any],
        optimizer: Optimizer,
        metrics: Sequence[str | Metric] | None = None,
        max_grad_norm: float | None = None,
        *,
        scheduler: Scheduler | None = None,
        scheduler_interval: str = "epoch",
        capture: bool = True,
    ) -> None:
        own = {id(p) for p in model.parameters()}
        self._trained = [p for g in optimizer.param_groups for p in g["params"]]
        if not all(id(p) in own for p in self._trained):
            raise ValueError(
                "Trainer: expected an optimizer of the model's parameters, got one of others; "
                "make it after model.to()"
            )
        names = tuple(m for m in metrics or () if not isinstance(m, Metric))
        if not set(names) <= {"accuracy"}:
            raise ValueError(f"Trainer: expected metrics ('accuracy',) or (), got {names}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"Trainer: expected max_grad_norm > 0, got {max_grad_norm}")
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self._meters = [m for m in metrics or () if isinstance(m, Metric)]
        self.metrics = None if metrics is None or (self._meters and not names) else names
        self._schedule = Schedule(scheduler, optimizer, scheduler_interval)
        self.max_grad_norm, self._switch = max_grad_norm, Switch(capture)
        self.stop_training = False
        self.ema: EMA | None = None
        self._callbacks: Sequence[Callback] = ()
        self._saved: dict[str, Any] = {}  # callbacks' states loaded, for the fit that goes on
        self._position = Position()
        self._checks_itself = isinstance(loss, nn.CrossEntropyLoss) or loss is F.cross_entropy

    @property
    def epoch(self) -> int:
        """Whole epochs done by the last fit, or by the checkpoint loaded."""
        return self._position.epoch

    # ---- fit -----------------------------------------------------------------------------------

    def fit(
        self,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Pair | None = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
        shuffle: bool | Sampler = True,
        seed: int | None = None,
        initial_epoch: int | None = 0,
        augment: Augmentation | None = None,
    ) -> History:
        """Train until ``epochs`` epochs are done.

        Args:
            x: Samples, shape (n, ...).
            y: Class indices, shape (n,), or floats for other losses. Where the loss has an
                ``ignore_index``, samples with that label count in no mean; a batch of nothing else
                has no loss, which is an error of its step.
            batch_size: Samples per step; the last step of an epoch may have fewer.
            epochs: Number of the last epoch, counted from 1.
            validation_data: (x, y) to evaluate after each epoch.
            validation_split: Share of the data, taken from its end, to use for that instead.
            callbacks: Called at the hooks of :class:`fastnn.train.Callback`.
            verbose: 0 silent, 1 a bar and a line per epoch, 2 the lines; on stderr.
            shuffle: Whether each epoch has an order of its own; or what draws its samples, such as
                :class:`fastnn.train.BalancedSampler`.
            seed: What that order depends on, besides the epoch; default: ``fn.manual_seed``'s.
            initial_epoch: Epochs done already; None goes on where the last fit, or the checkpoint
                loaded, stopped, in the middle of an epoch too.

            augment: Transforms of training images, see :mod:`fastnn.data.augment`; validation has
                those without chance. x is uint8 or float32, shape (n, channels, height, width).

        Returns:
            The logs of every epoch.

        Raises:
            ValueError: For bad arguments and data, before anything is changed; for a loss or a
                gradient that is not finite, with the model as the last good step left it.
            KeyboardInterrupt: After Ctrl-C, between two steps.

        Example:
            See :class:`Trainer`.
        """
        check_arguments(
            batch_size, epochs, validation_data, validation_split, verbose, initial_epoch
        )
        data, validation = self._check_all((x, y), validation_data, validation_split, augment)
        before = self._position if initial_epoch is None else Position(initial_epoch)
        position = before.start(len(data.x), batch_size, seed)
        self.optimizer.prepare()
        train = self._train_loop(data, batch_size)
        evaluation = None if validation is None else self._evaluation_loop(validation)
        attach(callbacks, self, None if initial_epoch is not None else self._saved)
        self._position, self.stop_training = position, False
        self._callbacks, self._saved = callbacks, {}
        self._schedule.begin(-(-len(data.x) // batch_size), self._trained[0].device)
        progress = make_progress(verbose)
        with evaluation_mode(self.model, training=True), between_steps() as check_interrupt:
            progress.begin(position.epoch, epochs, position.samples)
            try:
                return self._run(
                    train, evaluation, epochs, callbacks, progress, shuffle, check_interrupt
                )
            finally:
                self._schedule.end()
                progress.close()
                self.optimizer.zero_grad()

    def _run(
        self,
        train: Loop,
        evaluation: Loop | None,
        epochs: int,
        callbacks: Sequence[Callback],
        progress: Progress,
        shuffle: bool | Sampler,
        check_interrupt: Callable[[], None],
    ) -> History:
        history = History()
        position = self._position
        notify(callbacks, "on_train_begin")
        while position.epoch < epochs and not self.stop_training:
            epoch = position.epoch
            notify(callbacks, "on_epoch_begin", epoch)
            order = epoch_order(shuffle, position.samples, position.seed, epoch)
            logs = self._run_epoch(train, order, callbacks, progress, check_interrupt)
            if evaluation is not None:
                try:
                    values = self._run_evaluation(evaluation)
                except ValueError as error:
                    raise ValueError(f"fit: epoch {epoch + 1}, validation: {error}") from error
                logs = {**logs, **{f"val_{name}": value for name, value in values.items()}}
            position.next_epoch()
            self._schedule.end_epoch(logs)
            history.append(epoch, logs)
            progress.epoch_end(epoch, logs)
            notify(callbacks, "on_epoch_end", epoch, logs)
            check_interrupt()
        notify(callbacks, "on_train_end")
        return history

    def _run_epoch(
        self,
        loop: Loop,
        order: Any,
        callbacks: Sequence[Callback],
        progress: Progress,
        check_interrupt: Callable[[], None],
    ) -> dict[str, float]:
        """Run the training steps of an epoch, from where the position is; returns the logs."""
        position, batches = self._position, loop.batches
        first = position.done
        batches.start(order, first, position.skipped, (position.loss_sum, position.correct))
        batches.draw(position.seed, position.epoch)
        rows = loop.batch_size
        self._schedule.begin_epoch(-(-first // rows), -(-position.samples // rows))
        each = wants_batches(callbacks)
        steps = loop.run(max_steps=1 if each else None)
        start = time.perf_counter()
        try:
            while (done := self._advance(steps, loop)) is not None:
                progress.batch(position.epoch, done)
                self._schedule.reach(-(-done // rows))
                if each:
                    notify(callbacks, "on_train_batch_end", (done - 1) // rows, batches.logs())
                check_interrupt()
        finally:  # a checkpoint may follow, whatever happened
            self._schedule.reach(-(-batches.done // rows))
            position.done, position.skipped = batches.done, batches.skipped
            position.loss_sum, position.correct = batches.sums()
        seconds = max(time.perf_counter() - start, 1e-9)
        return {
            **batches.logs(),
            "lr": self._schedule.last_lr(self.optimizer),
            "seconds": seconds,
            "samples_per_s": (batches.done - first) / seconds,
        }

    def _advance(self, steps: Iterator[int], loop: Loop) -> int | None:
        """Make the next native call; says where in the data an error was."""
        try:
            return next(steps, None)
        except ValueError as error:
            loop.batches.skip()
            step = loop.batches.done // loop.batch_size + 1
            raise ValueError(f"fit: epoch {self.epoch + 1}, step {step}: {error}") from error

    # ---- the steps -----------------------------------------------------------------------------

    def _check(self, op: str, pair: Pair, augment: Augmentation | None = None) -> Data:
        device = self._trained[0].device
        return check_data(op, self.model, self.loss, pair, device, self.metrics, augment)

    def _check_all(
        self, pair: Pair, validation_data: Pair | None, share: float, augment: Augmentation | None
    ) -> tuple[Data, Data | None]:
        """The data to train on, and those for validation."""
        data = self._check("fit", pair, augment)
        plain = None if augment is None else Compose([augment]).evaluation()
        if validation_data is not None:
            return data, self._check("fit: validation_data", validation_data, plain)
        return split(data, share, plain) if share else (data, None)

    def _loss(self, outputs: Any, y: Any) -> Any:
        """The loss, which has to be finite: while recording, the kernels see to that."""
        if self._checks_itself:
            return self.loss(outputs, y, check_finite=True)  # type: ignore[call-arg]
        loss = self.loss(outputs, y)
        _core.sum(loss, 1.0, True)
        return loss

    def _train_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(x)
        loss = self._loss(outputs, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step(max_grad_norm=self.max_grad_norm)
        return outputs, loss

    def _evaluation_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(x)
        return outputs, self._loss(outputs, y)

    def _train_loop(self, data: Data, batch_size: int) -> Loop:
        def prepare() -> object:
            self.optimizer.prepare()  # a callback may have brought another one
            self.optimizer.sync()
            return id(self.optimizer), self.optimizer.structure(), structure(self.model)

        return self._loop(data, batch_size, self._train_step, prepare)

    def _evaluation_loop(self, data: Data) -> Loop:
        if data.labels is not None:  # a batch without labels would have no mean
            data = data.take(data.labels > 0)
        rows = min(len(data.x), _EVALUATION_BATCH)
        return self._loop(data, rows, self._evaluation_step, lambda: structure(self.model))

    def _loop(self, data: Data, rows: int, body: Body, prepare: Callable[[], object]) -> Loop:
        batches = Batches(data, self._trained[0].device)
        sums = getattr(self.loss, "reduction", "mean") == "sum"
        return Loop(batches, rows, body, prepare, sums_loss=sums, switch=self._switch)

    # ---- evaluation ------------------------------------------------------------------------------

    def evaluate(self, x: ArrayLike | Tensor, y: ArrayLike | Tensor) -> dict[str, float]:
        """Loss, and accuracy where y holds class indices, in evaluation mode.

        Raises:
            ValueError: For data that does not fit, as in :meth:`fit`.

        Example:
            >>> import numpy as np, fastnn as fn
            >>> model = fn.nn.Linear(2, 2)
            >>> optimizer = fn.optim.SGD(model.parameters())
            >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
            >>> sorted(trainer.evaluate(np.zeros((4, 2)), [0, 1, 0, 1]))
            ['accuracy', 'loss']
        """
        return self._run_evaluation(self._evaluation_loop(self._check("evaluate", (x, y))))

    def _run_evaluation(self, loop: Loop) -> dict[str, float]:
        batches = loop.batches
        batches.start()
        with evaluation_mode(self.model), no_grad(), averaged(self):
            for _ in loop.run():
                pass
            ignored = getattr(self.loss, "ignore_index", None)
            scores = measure(self._meters, self.model, batches.inputs(), batches.y, ignored)
        return {**batches.logs(), **scores}

    def predict(self, x: ArrayLike | Tensor, batch_size: int = 1024) -> np.ndarray[Any, Any]:
        """The model's outputs in evaluation mode, as a NumPy array.

        Example:
            See :meth:`fastnn.nn.Module.predict`.
        """
        with averaged(self):
            return self.model.predict(x, batch_size)

    # ---- checkpoints -----------------------------------------------------------------------------

    def save(self, path: str, extra: Mapping[str, Any] | None = None) -> None:
        """Write model, optimizer, scheduler, callbacks' states, generators and position.

        Training goes on from there with the same bits. In fit, a callback that saves comes last.

        Args:
            path: The file; replaced as a whole.
            extra: JSON-like data to keep with it.

        Example:
            >>> import os, tempfile, fastnn as fn
            >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
            >>> model = fn.nn.Linear(2, 2)
            >>> optimizer = fn.optim.SGD(model.parameters())
            >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
            >>> trainer.save(path, {"note": "first"})
            >>> trainer.load(path)
            {'note': 'first'}
        """
        states = checkpoint.companions(self._schedule.scheduler, self._callbacks) | self._saved
        checkpoint.save_training(path, self.model, self.optimizer, self._position, extra, states)

    def load(self, path: str) -> dict[str, Any]:
        """Continue from :meth:`save`; ``fit(..., initial_epoch=None)`` then goes on.

        The callbacks of that fit take up their states, by class and place among the callbacks.

        Returns:
            What was given to save as ``extra``.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If it is damaged or of another model; nothing is changed then.

        Example:
            See :meth:`save`.
        """
        self._position, self._saved, extra = checkpoint.load_training(
            path, self.model, self.optimizer, self._schedule.scheduler
        )
        return extra
