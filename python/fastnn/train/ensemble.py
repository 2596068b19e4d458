"""Ensembles: snapshots of one training, and trainings of random architectures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import nn, random
from fastnn._checks import checked
from fastnn.tensor import Tensor
from fastnn.train.callbacks import Callback, Logs, averaged

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["SnapshotEnsemble", "random_ensemble"]


class SnapshotEnsemble(Callback):
    """Keep a snapshot of the model at the end of each cycle of the learning rate.

    One training then gives several models, of different minima if the rate starts high again:
    lr = lr_0 / 2 (cos(pi t / cycle) + 1), t being the step in the cycle. Give the Trainer
    :class:`fastnn.optim.lr_scheduler.CosineAnnealingWarmRestarts` of as many steps.

    Args:
        cycle: Epochs between snapshots.
        start_from_epoch: Epochs of which none is kept.

    Attributes:
        snapshots: The states that were kept, one for each cycle.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Linear(2, 2)
        >>> optimizer = fn.optim.SGD(model.parameters(), lr=0.5)
        >>> cosine = fn.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4)
        >>> trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer, scheduler=cosine)
        >>> snapshots = fn.train.SnapshotEnsemble(cycle=4)
        >>> _ = trainer.fit(np.eye(2), [0, 1], epochs=12, callbacks=[snapshots], verbose=0)
        >>> len(snapshots.ensemble())
        3

    Source:
        Huang et al. 2017, "Snapshot ensembles: train 1, get M for free".
    """

    def __init__(self, cycle: int, start_from_epoch: int = 0) -> None:
        if cycle < 1:
            raise ValueError(f"SnapshotEnsemble: expected cycle >= 1, got {cycle}")
        if start_from_epoch < 0:
            raise ValueError(
                f"SnapshotEnsemble: expected start_from_epoch >= 0, got {start_from_epoch}"
            )
        self.cycle, self.start_from_epoch = cycle, start_from_epoch
        self.reset()

    def reset(self) -> None:
        """No snapshot was kept so far."""
        self.snapshots: list[dict[str, Tensor]] = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Keep one, if a cycle is done."""
        if (epoch + 1) % self.cycle == 0 and epoch >= self.start_from_epoch:
            with averaged(self.trainer):
                state = self.trainer.model.state_dict()
                self.snapshots.append({name: value.clone() for name, value in state.items()})

    def ensemble(self, last: int | None = None) -> nn.Ensemble:
        """The snapshots as one model.

        Args:
            last: How many of them, counted from the end; default: all.

        Raises:
            ValueError: If there are none.
        """
        chosen = self.snapshots[-last:] if last else self.snapshots
        models = [copy.deepcopy(self.trainer.model) for _ in chosen]
        for model, state in zip(models, chosen, strict=True):
            model.load_state_dict(state)
        return nn.Ensemble(models)

    def state_dict(self) -> dict[str, Any]:
        """The snapshots."""
        return {
            f"{i}.{name}": value
            for i, state in enumerate(self.snapshots)
            for name, value in state.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of another model.
        """
        own = {k: (v.shape, v.dtype) for k, v in self.trainer.model.state_dict().items()}
        kept: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            index, _, inner = name.partition(".")
            kept.setdefault(index, {})[inner] = value
        for index, values in kept.items():
            shapes = {k: (v.shape, v.dtype) for k, v in values.items() if isinstance(v, Tensor)}
            if not index.isdecimal() or shapes != own:
                raise ValueError("SnapshotEnsemble: expected snapshots of this model, got others")
        self.snapshots = [kept[index] for index in sorted(kept, key=int)]


Space = Mapping[str, Sequence[Any] | Callable[[np.random.Generator], Any]]


@checked
def random_ensemble(
    make: Callable[..., Trainer], space: Space, k: int, *data: Any, seed: int = 0, **fit: Any
) -> tuple[nn.Ensemble, list[dict[str, Any]]]:
    """Train k models of random hyper-parameters and average their probabilities.

    An alternative to searching for the best: no model is thrown away, but prediction takes k times
    as long.

    Args:
        make: Called with a value for each name of the space; returns a Trainer.
        space: For each hyper-parameter, what it is drawn from: a list, or a function of a
            ``numpy.random.Generator``, such as ``lambda rng: 10 ** rng.uniform(-4, -2)``.
        k: Number of models.
        data: x and y, for :meth:`fastnn.Trainer.fit`.
        seed: What the draws and the trainings depend on.
        fit: Other arguments of fit.

    Returns:
        (the ensemble, the hyper-parameters of each member)

    Raises:
        ValueError: If k is less than 1, or there is nothing to draw from.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> def make(width, lr):
        ...     model = fn.nn.Sequential(
        ...         fn.nn.Linear(2, width), fn.nn.ReLU(), fn.nn.Linear(width, 2)
        ...     )
        ...     optimizer = fn.optim.Adam(model.parameters(), lr=lr)
        ...     return fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        >>> space = {"width": [4, 8, 16], "lr": lambda rng: 10 ** rng.uniform(-3, -1)}
        >>> x = np.random.default_rng(0).normal(size=(64, 2))
        >>> labels = (x[:, 0] > 0).astype(int)
        >>> ensemble, drawn = fn.train.random_ensemble(make, space, 3, x, labels, epochs=5)
        >>> ensemble.predict_proba(x).shape, len(drawn)
        ((64, 2), 3)
    """
    if k < 1:
        raise ValueError(f"random_ensemble: expected k >= 1, got {k}")
    rng = np.random.default_rng(seed)
    models, drawn = [], []
    before = random.get_state()
    try:
        for i in range(k):
            values = {name: _draw(name, choices, rng) for name, choices in space.items()}
            random.manual_seed(seed + i)
            trainer = make(**values)
            trainer.fit(*data, **{"verbose": 0, **fit})
            models.append(trainer.model)
            drawn.append(values)
    finally:
        random.set_state(before)
    return nn.Ensemble(models), drawn


def _draw(name: str, choices: Any, rng: np.random.Generator) -> Any:
    if callable(choices):
        return choices(rng)
    if not len(choices):
        raise ValueError(f"random_ensemble: expected choices for {name!r}, got none")
    return choices[int(rng.integers(len(choices)))]
