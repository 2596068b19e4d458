"""Monitor: loss, gradient norm and learning rate of every step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _core
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor, from_numpy, tensor
from fastnn.train.callbacks import Logs
from fastnn.train.files import write_atomically
from fastnn.train.follow import StepCallback

__all__ = ["Monitor"]

_SERIES = ("epoch", "loss", "grad_norm", "lr")


class Monitor(StepCallback):
    """Keeps the loss, the norm of the gradients and the rate of every step.

    It costs a native call per step, and a pass over the gradients. The loss is that of the step's
    samples alone.

    Args:
        path: A file to write a JSON line to for each step, or None.

    Attributes:
        epoch: The epoch of each step, from 0.
        loss: Its loss.
        grad_norm: Norm of all gradients as one vector, before clipping by norm.
        lr: The rate of the first group.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> monitor = fn.train.Monitor()
        >>> _ = trainer.fit(
        ...     np.eye(2), [0, 1], batch_size=1, epochs=3, callbacks=[monitor], verbose=0
        ... )
        >>> len(monitor.loss), monitor.epoch
        (6, [0, 0, 1, 1, 2, 2])
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path
        self._norms: Any = None  # their sum over the steps, the bits of a float64
        self._norms_before = 0.0
        self.reset()

    def reset(self) -> None:
        """No step was seen so far."""
        self.epoch: list[int] = []
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.lr: list[float] = []
        self._before = (0.0, 0.0)  # sum of losses, and of samples, in this epoch

    def on_step(self, optimizer: Optimizer) -> None:
        """Add the norm of the gradients; without a bound it scales nothing."""
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        _core.accumulate(_core.clip_grad_norm(grads, math.inf, 2.0), self._norms, 1.0)

    def on_epoch_begin(self, epoch: int) -> None:
        """The means begin anew, unless the epoch goes on."""
        super().on_epoch_begin(epoch)
        if self.trainer.position.done == 0:
            self._before = (0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Keep the numbers of the step."""
        done = float(self.trainer.position.done - self.trainer.position.skipped)
        total, (sum_before, done_before) = logs["loss"] * done, self._before
        self._before = total, done
        norms = float(_core.read_float64(self._norms.to("cpu")))
        self.epoch.append(self.trainer.epoch)
        self.loss.append((total - sum_before) / max(done - done_before, 1.0))
        self.grad_norm.append(norms - self._norms_before)
        self._norms_before = norms
        self.lr.append(self.trainer.schedule.last_lr(self.trainer.optimizer))
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(self._line(len(self.loss) - 1))

    def _line(self, i: int) -> str:
        row = {name: getattr(self, name)[i] for name in _SERIES}
        return json.dumps({"step": i + 1, **row}) + "\n"

    def on_train_begin(self) -> None:
        """Begin the file, with the steps of before if the training goes on."""
        if self.trainer.precision.scaler is not None:
            raise ValueError(
                "Monitor: expected precision '32-true' or 'bf16-mixed', got "
                f"{self.trainer.precision.name!r}, whose gradients are scaled"
            )
        self._norms = from_numpy(np.zeros(1, np.int64)).to(self.trainer.device)
        self._norms_before = 0.0
        if self.path is not None:
            lines = "".join(map(self._line, range(len(self.loss))))
            write_atomically(self.path, lines.encode())

    def state_dict(self) -> dict[str, Any]:
        """What was kept, and where in the epoch it is."""
        series = np.array([self.epoch, self.loss, self.grad_norm, self.lr], np.float64)
        return {"before": list(self._before), "series": tensor(series.view(np.int64))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is no such state.
        """
        before, series = state.get("before"), state.get("series")
        if not (
            isinstance(before, list)
            and len(before) == 2
            and all(type(v) is float for v in before)
            and isinstance(series, Tensor)
            and series.dtype == "int64"
            and series.shape[:1] == (4,)
        ):
            raise ValueError("Monitor: expected the numbers of four series")
        epoch, loss, norm, lr = np.asarray(series).view(np.float64).tolist()
        self.epoch, self.loss = [int(e) for e in epoch], loss
        self.grad_norm, self.lr = norm, lr
        self._before = before[0], before[1]
