"""SWA: the average of the weights that a training comes by at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _core, nn
from fastnn._checks import checked
from fastnn.nn.norm import BatchNorm1d, BatchNorm2d
from fastnn.tensor import Tensor, as_tensor, no_grad
from fastnn.train.callbacks import Callback, Logs
from fastnn.train.checks import evaluation_mode
from fastnn.train.members import outputs_of

__all__ = ["SWA", "update_bn"]


class SWA(Callback):
    """Averages the weights over the ends of the last epochs; the model has the average at the end.

    w_swa = (1 / k) sum of w after each of the last k epochs. Such an average lies in a wider
    minimum than its parts; keep the learning rate high, constant or cyclic, while it is taken. The
    running statistics of batch norm are computed anew, from the training data.

    Args:
        swa_epoch_start: The first epoch that counts, from 0; or a share of the epochs as a float.

    Attributes:
        epochs: How many are averaged.

    Raises:
        ValueError: If the argument is out of range.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> swa = fn.train.SWA(swa_epoch_start=6)
        >>> _ = trainer.fit(np.eye(2), [0, 1], epochs=10, callbacks=[swa], verbose=0)
        >>> swa.epochs
        4

    Source:
        Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".
    """

    def __init__(self, swa_epoch_start: float = 0.8) -> None:
        start = swa_epoch_start
        is_share = isinstance(start, float) and 0 <= start <= 1
        if not is_share and not (isinstance(start, int) and start >= 0):
            raise ValueError(
                f"SWA: expected swa_epoch_start to be an epoch or a share from 0.0 to 1.0, got "
                f"{start!r}"
            )
        self.swa_epoch_start = start
        self.reset()

    def reset(self) -> None:
        """No epoch was averaged so far."""
        self.epochs = 0
        self._mean: dict[str, Tensor] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Add the weights to the average."""
        start = self.swa_epoch_start
        if epoch < (start * self.trainer.max_epochs if isinstance(start, float) else start):
            return
        self.epochs += 1
        for name, p in self.trainer.model.named_parameters():
            now = p.detach().to("cpu").to("float32")
            mean = self._mean.setdefault(name, now.clone())
            mean.copy_(mean + (now - mean) * (1 / self.epochs))

    def on_train_end(self) -> None:
        """Give the model the average."""
        if not self.epochs:
            return
        model = self.trainer.model
        for name, p in model.named_parameters():
            p.copy_(self._mean[name].to(p.dtype).to(p.device))
        if self.trainer.data is not None:
            update_bn(model, self.trainer.data.inputs())

    def state_dict(self) -> dict[str, Any]:
        """The average, and of how many epochs it is."""
        return {"epochs": self.epochs, **{f"mean.{k}": v for k, v in self._mean.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is not of this model.
        """
        epochs = state.get("epochs")
        if type(epochs) is not int or epochs < 0:
            raise ValueError(f"SWA: expected epochs >= 0, got {str(epochs)[:80]}")
        mean = {k.removeprefix("mean."): v for k, v in state.items() if isinstance(v, Tensor)}
        own = {k: p.shape for k, p in self.trainer.model.named_parameters()}
        if mean and {k: v.shape for k, v in mean.items()} != own:
            raise ValueError("SWA: expected the average of this model's weights, got another's")
        self.epochs, self._mean = epochs, mean


@checked
def update_bn(model: nn.Module, x: Any, batch_size: int = 1024) -> None:
    """Compute the running statistics of a model's batch norms anew, as means over all batches of x.

    After the weights were set by something else than training, such as an average.

    Args:
        model: Dropout and its relatives are off meanwhile.
        x: Samples, shape (n, ...).
        batch_size: Samples per forward pass.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.BatchNorm1d(1))
        >>> fn.train.update_bn(model, np.array([[1.0], [3.0]]))
        >>> model[0].running_mean.numpy()
        array([2.], dtype=float32)

    Source:
        Izmailov et al. 2018, section 3.2.
    """
    norms = [
        module
        for _, module in model.named_modules()
        if isinstance(module, (BatchNorm1d, BatchNorm2d)) and module.running_mean is not None
    ]
    if not norms:
        return
    rows = np.asarray(as_tensor(x).to("cpu"))
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(model), no_grad():
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            norm.running_mean.copy_(norm.running_mean * 0.0)
            norm.running_var.copy_(norm.running_var * 0.0 + 1.0)
            norm.num_batches_tracked.copy_(np.array(0))
            norm.training, norm.momentum = True, None  # the mean over all batches
        try:
            for start in range(0, len(rows), batch_size):
                part: Any = _core.share(rows[start : start + batch_size])
                outputs_of(model, _core.to_device(part, next(model.parameters()).device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
