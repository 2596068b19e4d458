"""Trainer: fits a model on arrays. A step is recorded once and replayed (step.py, epoch.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import nn
from fastnn.data.augment import Augmentation, Compose
from fastnn.data.order import Sampler
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor
from fastnn.train import checkpoint, step
from fastnn.train.callbacks import Callback, attach, averaged, check_callbacks, torn_down
from fastnn.train.checks import (
    Data,
    check_arguments,
    check_data,
    check_parts,
    describe,
    evaluation_mode,
    split,
    weigh,
)
from fastnn.train.ema import EMA
from fastnn.train.epoch import Switch
from fastnn.train.flags import Flags, batches_of
from fastnn.train.history import History
from fastnn.train.interrupt import between_steps
from fastnn.train.metrics import Metric
from fastnn.train.objective import Objective
from fastnn.train.position import Position
from fastnn.train.precision import Precision
from fastnn.train.progress import make_progress
from fastnn.train.run import Run, evaluate
from fastnn.train.schedule import Schedule, Scheduler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

__all__ = ["History", "Trainer"]

Pair = Sequence["ArrayLike | Tensor | None"]  # x, y and perhaps weights


class Trainer:
    """Fits a model, with Keras' arguments of fit and Lightning's flags.

    A :class:`fastnn.nn.Stacked` is K models that see the same batches. Each has its own loss,
    penalties, norm of gradients and, by ``stack.param_groups(lr=...)``, learning rate, and with the
    same ``seed`` of fit the bits of its training alone (but for the order of three terms or more in
    a gradient: penalties and batches that accumulate). Logs hold the means over the models, and
    those of model 2 as ``loss_2``, ``val_accuracy_2`` and so on. Everything else is of the stack:
    an end, a best epoch and a checkpoint are of all models at once, by the mean or by the one that
    ``monitor`` names.

    Args:
        model: The model, or a stack of models; the optimizer holds its parameters.
        loss: Function of (outputs, y) that returns a scalar Tensor: a mean over the batch, or a sum
            if it has ``reduction == "sum"``; or a :class:`fastnn.train.Objective` with penalties.
        optimizer: Updates the model.
        metrics: ``("accuracy",)`` or ``()``; default: the accuracy where y holds class indices.
            Besides, any of :mod:`fastnn.train.metrics`: computed in evaluation.
        scheduler: Sets that optimizer's learning rates, not those of one that a callback brings.
            ReduceLROnPlateau watches the validation loss, or the loss where there is none.
        scheduler_interval: Whether it steps after each ``"epoch"`` or after each ``"step"``.
        gradient_clip_val: Clip the gradients to this.
        gradient_clip_algorithm: Whether it is their common ``"norm"``, or each ``"value"``.
        accumulate_grad_batches: Batches of each step: its gradient is that of all their samples as
            one batch. Batch norm sees the batches; a loss that is a sum takes penalties with each.
        overfit_batches: Train on the first so many batches alone, or on this share of them as a
            float, in their order, and validate likewise; 0 for all. To see whether a model can
            learn a small sample by heart.
        limit_train_batches: End each epoch after so many batches, or this share of them.
        limit_val_batches: Validate with the first so many batches, or this share; 0 for none.
        precision: What the model's products are made of: ``"32-true"``, or ``"bf16-mixed"``, as in
            :class:`fastnn.autocast`; ``"16-mixed"`` is that of float16 on CUDA, with a
            :class:`fastnn.amp.GradScaler`. Weights, the optimizer's state, losses and norms are
            float32 in any case. Evaluation and ``predict`` run the same way.
        deterministic: Accepted for Lightning's sake: the bits are always the same.
        capture: Record the step and replay it. The bits are the same without, the speed is not.

    Attributes:
        stop_training: Set it in a callback to stop after the epoch.
        precision: What runs the model: its name, and ``scaler``, that of the loss, or None.
        epoch: Whole epochs done.
        max_epochs: The epochs of the fit that runs, or ran last.
        data: The checked samples of the fit that runs, else None.
        history: What the fit that runs, or ran last, returns.
        ema: The :class:`fastnn.train.EMA` among the callbacks, or None: what evaluation measures.

    Raises:
        ValueError: If the optimizer has other parameters than the model, an argument is wrong, or
            the device has no kernels for the precision.
        TypeError: If model, loss or optimizer is something else.

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
        loss: Callable[[Any, Any], Any] | Objective,
        optimizer: Optimizer,
        metrics: Sequence[str | Metric] | None = None,
        *,
        scheduler: Scheduler | None = None,
        scheduler_interval: str = "epoch",
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        accumulate_grad_batches: int = 1,
        overfit_batches: float = 0,
        limit_train_batches: float = 1.0,
        limit_val_batches: float = 1.0,
        precision: str = "32-true",
        deterministic: bool = True,
        capture: bool = True,
    ) -> None:
        if isinstance(model, nn.Stacked) and precision != "32-true":
            raise ValueError(
                f"Trainer: expected precision '32-true' with Stacked, which has kernels for "
                f"float32, got {precision!r}"
            )
        check_parts(model, loss, optimizer)
        own = {id(p) for p in model.parameters()}
        trained = [p for g in optimizer.param_groups for p in g["params"]]
        if not all(id(p) in own for p in trained):
            raise ValueError(
                "Trainer: expected an optimizer of the model's parameters, got one of others; "
                "make it after model.to()"
            )
        names = tuple(m for m in metrics or () if not isinstance(m, Metric))
        if isinstance(metrics, str) or not set(names) <= {"accuracy"}:
            got = repr(metrics) if isinstance(metrics, str) else names
            raise ValueError(f"Trainer: expected metrics ('accuracy',) or (), got {got}")
        self.flags = Flags(
            gradient_clip_val,
            gradient_clip_algorithm,
            accumulate_grad_batches,
            overfit_batches,
            limit_train_batches,
            limit_val_batches,
        )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.device = trained[0].device
        clips_values = gradient_clip_val is not None and gradient_clip_algorithm == "value"
        self.precision = Precision(precision, self.device, clips_values)
        self.meters = [m for m in metrics or () if isinstance(m, Metric)]
        self.metrics = None if metrics is None or (self.meters and not names) else names
        self.schedule = Schedule(scheduler, optimizer, scheduler_interval)
        self.switch = Switch(capture)
        self.stop_training = False
        self.ema: EMA | None = None
        self.position = Position()
        self.max_epochs = 0
        self.data: Data | None = None
        self.history = History()
        self._callbacks: Sequence[Callback] = ()
        self._saved: dict[str, Any] = {}  # callbacks' states loaded, for the fit that goes on

    @property
    def epoch(self) -> int:
        """Whole epochs done by the last fit, or by the checkpoint loaded."""
        return self.position.epoch

    @property
    def objective(self) -> Objective:
        """The loss and its penalties."""
        return self.loss if isinstance(self.loss, Objective) else Objective(self.loss)

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
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        augment: Augmentation | None = None,
    ) -> History:
        """Train until ``epochs`` epochs are done.

        Args:
            x: Samples, shape (n, ...).
            y: Class indices, shape (n,), or floats for other losses. Where the loss has an
                ``ignore_index``, samples with that label count in no mean; a batch of nothing else
                has no loss, which is an error of its step.
            batch_size: Samples per batch; the last batch of an epoch may have fewer.
            epochs: Number of the last epoch, counted from 1.
            validation_data: (x, y) or (x, y, sample_weight) to evaluate after each epoch.
            validation_split: Share of the data, taken from its end, to use for that instead.
            callbacks: Called at the hooks of :class:`fastnn.train.Callback`.
            verbose: 0 silent, 1 a bar and a line per epoch, 2 the lines; on stderr.
            shuffle: Whether each epoch has an order of its own; or what draws its samples, such as
                :class:`fastnn.train.BalancedSampler`.
            seed: What that order depends on, besides the epoch; default: ``fn.manual_seed``'s.
            initial_epoch: Epochs done already; None goes on where the last fit, or the checkpoint
                loaded, stopped, in the middle of an epoch too.
            class_weight: How much the loss of a class counts in training; 1 for those not given.
            sample_weight: How much the loss of each sample counts, shape (n,); times that of its
                class. The loss is sum_i w_i l_i / n, as in Keras; accuracies are not weighted.
            augment: Transforms of training images, see :mod:`fastnn.data.augment`; validation has
                those without chance. x is uint8 or float32, shape (n, channels, height, width).

        Returns:
            The logs of every epoch.

        Raises:
            ValueError: For bad arguments and data, before anything is changed; for a loss or a
                gradient that is not finite, with the model as the last good step left it.
            KeyboardInterrupt: After Ctrl-C, between two steps.
            SystemExit: Of code 143, after SIGTERM, between two steps.

        Example:
            See :class:`Trainer`.
        """
        check_arguments(
            batch_size, epochs, validation_data, validation_split, verbose, initial_epoch, shuffle
        )
        check_callbacks(callbacks)
        data, validation = self._parts(
            (x, y, sample_weight), validation_data, validation_split, class_weight, augment
        )
        data, validation, limit = self._limited(data, validation, batch_size)
        rows = batch_size * self.flags.accumulate_grad_batches
        before = self.position if initial_epoch is None else Position(initial_epoch)
        position = before.start(len(data.x), rows, seed)
        with self.objective.watching(self.model):
            self.optimizer.prepare()
            train = step.train_loop(self, data, batch_size, limit)
            evaluation = None if validation is None else step.evaluation_loop(self, validation)
            attach(callbacks, self, None if initial_epoch is not None else self._saved)
            self.position, self.stop_training = position, False
            self._callbacks, self._saved = callbacks, {}
            self.max_epochs, self.data = epochs, data
            if self.flags.overfit_batches:
                shuffle = False
            self.history = History()
            self.history.params = {
                **describe(data, validation, self.model, self.objective.loss),
                **({"shuffle": int(shuffle)} if isinstance(shuffle, bool) else {}),
                "batch_size": batch_size,
                "epochs": epochs,
            }
            self.schedule.begin(-(-limit // rows), self.device)
            progress = make_progress(verbose)
            mode = evaluation_mode(self.model, training=True)
            with mode, torn_down(callbacks), between_steps() as check_interrupt:
                progress.begin(position.epoch, epochs, limit)
                parts = (callbacks, progress, shuffle, check_interrupt, self.history)
                try:
                    return Run(self, train, evaluation, *parts).until(epochs)
                finally:
                    self.data = None
                    self.schedule.end()
                    progress.close()
                    self.optimizer.zero_grad()

    def _check(self, op: str, parts: Pair, augment: Augmentation | None = None) -> Data:
        """x and y, and the samples' weights if there is a third part."""
        data = check_data(op, self.model, self.objective, parts, self.device, self.metrics, augment)
        return weigh(op, self.objective, data, parts[2] if len(parts) > 2 else None)

    def _parts(
        self,
        parts: Pair,
        validation_data: Pair | None,
        validation_split: float,
        class_weight: Mapping[int, float] | None,
        augment: Augmentation | None,
    ) -> tuple[Data, Data | None]:
        """The data to train on, and those for validation."""
        data, validation = self._check("fit", parts, augment), None
        plain = None if augment is None else Compose([augment]).evaluation()
        if validation_data is not None:
            validation = self._check("fit: validation_data", validation_data, plain)
        elif validation_split:
            data, validation = split(data, validation_split, plain)
        return weigh("fit", self.objective, data, None, class_weight), validation

    def _limited(
        self, data: Data, validation: Data | None, batch_size: int
    ) -> tuple[Data, Data | None, int]:
        """What the flags leave of the data, and how many samples an epoch takes of the first."""
        flags = self.flags

        def rows(part: Data, limit: float) -> int:
            n = len(part.x)
            return min(n, batch_size * batches_of(limit, -(-n // batch_size)))

        if flags.overfit_batches:
            data = data.take(slice(rows(data, flags.overfit_batches)))
        if validation is not None:
            kept = rows(validation, flags.overfit_batches or flags.limit_val_batches)
            validation = validation.take(slice(kept)) if kept else None
        return data, validation, rows(data, flags.limit_train_batches)

    # ---- evaluation ------------------------------------------------------------------------------

    def evaluate(
        self,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Loss, and accuracy where y holds class indices, in evaluation mode.

        Args:
            x: Samples.
            y: The truth.
            sample_weight: How much the loss of each sample counts, shape (n,).

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
        parts = (x, y) if sample_weight is None else (x, y, sample_weight)
        data = self._check("evaluate", parts)
        with self.objective.watching(self.model):
            return evaluate(self, step.evaluation_loop(self, data))

    def predict(self, x: ArrayLike | Tensor, batch_size: int = 1024) -> np.ndarray[Any, Any]:
        """The model's outputs in evaluation mode, as a NumPy array; (k, n, ...) of a stack.

        Example:
            See :meth:`fastnn.nn.Module.predict`.
        """
        with averaged(self), self.precision.autocast():
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
        parts = (self.schedule.scheduler, self.precision.scaler)
        states = checkpoint.companions(parts, self._callbacks) | self._saved
        checkpoint.save_training(path, self.model, self.optimizer, self.position, extra, states)

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
        self.position, self._saved, extra = checkpoint.load_training(
            path, self.model, self.optimizer, self.schedule.scheduler, self.precision.scaler
        )
        return extra
