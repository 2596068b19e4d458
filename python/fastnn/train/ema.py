"""The exponential moving average of the weights, and evaluation with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.optim import SGD, Optimizer
from fastnn.tensor import Tensor
from fastnn.train.follow import StepCallback

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["EMA"]


class EMA(StepCallback):
    """Keeps the average of the weights over the steps, and evaluates with it.

    After t steps: sum over s of decay^(t - s) w_s / sum over s of decay^(t - s), that is, with the
    start at 0 corrected. While it is among the callbacks of a fit, and afterwards, ``trainer``
    evaluates and predicts with the averages, and callbacks that keep the best model keep them; the
    model itself holds the trained weights. Running statistics of norms are not averaged.

    Args:
        decay: In [0, 1); it looks back about 1 / (1 - decay) steps.

    Attributes:
        weights: float32 Tensors by path, not yet corrected; None before training.

    Raises:
        ValueError: If decay is out of range.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> ema = fn.train.EMA(decay=0.9)
        >>> _ = trainer.fit(np.eye(2), [0, 1], epochs=5, callbacks=[ema], verbose=0)
        >>> ema.steps
        5
        >>> with ema.applied():  # the model has the averages in here
        ...     average = model.weight.detach().clone()

    Source:
        Polyak, Juditsky 1992, "Acceleration of stochastic approximation by averaging"; Kingma, Ba
        2015 for the correction.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: expected 0 <= decay < 1, got {decay}")
        self.decay = decay
        self.weights: dict[str, Tensor] | None = None
        self._averager: SGD | None = None
        self._is_applied = False

    @property
    def steps(self) -> int:
        """How many steps are averaged."""
        return 0 if self._averager is None else self._averager.step_count

    def set_trainer(self, trainer: Trainer) -> None:
        """What the trainer evaluates with, from now on."""
        super().set_trainer(trainer)
        trainer.ema = self

    def reset(self) -> None:
        """Begin a new average."""
        self.weights = self._averager = None

    def on_train_begin(self) -> None:
        """Follow the optimizer."""
        if self.weights is None:
            self._start({})

    def _start(self, values: Mapping[str, Tensor], steps: int = 0) -> None:
        self.weights = {}
        for name, p in self.trainer.model.named_parameters():
            start = values.get(name, _core.full(p.shape, 0.0, "float32", "cpu"))
            self.weights[name] = average = _core.to_device(_core.clone(start), p.device)
            average.requires_grad = True
        # An average is SGD on |a - w|^2 / 2: a -= (1 - decay) (a - w), and w comes as its gradient.
        self._averager = SGD(
            self.weights.values(), lr=1 - self.decay, weight_decay=1.0, maximize=True
        )
        counts = {i: {"step": steps} for i in range(len(self.weights))}
        groups = self._averager.state_dict()["param_groups"]
        self._averager.load_state_dict({"param_groups": groups, "state": counts})

    def on_step(self, optimizer: Optimizer) -> None:
        """One more step; one launch for all weights, recorded with the optimizer's."""
        assert self.weights is not None
        assert self._averager is not None
        for p, average in zip(self.trainer.model.parameters(), self.weights.values(), strict=True):
            average.grad = p.detach().to("float32")
        self._averager.step()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averages; afterwards the trained weights again.

        Example:
            See :class:`EMA`.
        """
        if self._is_applied or self.steps == 0:  # inside another, or nothing to apply
            yield
            return
        assert self.weights is not None
        params = dict(self.trainer.model.named_parameters())
        trained = {name: p.detach().clone() for name, p in params.items()}
        self._is_applied = True
        correction = 1 / (1 - self.decay**self.steps)
        try:
            for name, p in params.items():
                average = self.weights[name].detach() * correction
                p.copy_(average.to(p.dtype))
            yield
        finally:
            for name, p in params.items():
                p.copy_(trained[name])
            self._is_applied = False

    def state_dict(self) -> dict[str, Any]:
        """The averages, and of how many steps they are."""
        weights = {name: value.detach() for name, value in (self.weights or {}).items()}
        return {"steps": self.steps, **{f"weights.{k}": v for k, v in weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is not of this model.
        """
        own = {f"weights.{k}": p.shape for k, p in self.trainer.model.named_parameters()}
        values = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        steps = state.get("steps")
        if type(steps) is not int or not 0 <= steps < 1 << 62:
            raise ValueError(f"EMA: expected steps >= 0, got {str(steps)[:80]}")
        if steps == 0:
            return self.reset()
        if {k: v.shape for k, v in values.items()} != own:
            raise ValueError("EMA: expected averages of this model's weights, got others")
        self._start({k.removeprefix("weights."): v for k, v in values.items()}, steps)
