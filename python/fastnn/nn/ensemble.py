"""Ensemble: several models as one, whose predictions are the averages of theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module

__all__ = ["Ensemble"]

_AVERAGES = ("probabilities", "outputs")


class Ensemble(Module):
    """Averages the class probabilities of models; it is a model itself.

    y = log(mean over m of softmax(f_m(x))), so that ``predict_proba`` gives the average of the
    probabilities (not of the outputs before the softmax), and a cross-entropy of y is that of the
    average. It is evaluated, saved and loaded like any model.

    Args:
        models: The members; their outputs have shape (n, classes).
        average: ``"probabilities"``, or ``"outputs"`` for regression: y = mean of f_m(x).

    Raises:
        ValueError: If there is no model, or for another average.
        TypeError: If a member is no Module.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> members = [fn.nn.Linear(2, 3) for _ in range(5)]
        >>> ensemble = fn.nn.Ensemble(members)
        >>> mean = np.mean([m.predict_proba([[1.0, 2.0]]) for m in members], axis=0)
        >>> bool(np.allclose(ensemble.predict_proba([[1.0, 2.0]]), mean))
        True

    Source:
        Hansen, Salamon 1990, "Neural network ensembles".
    """

    def __init__(self, models: Iterable[Module], average: str = "probabilities") -> None:
        super().__init__()
        members = list(models)
        if not members:
            raise ValueError("Ensemble: expected at least one model, got none")
        if average not in _AVERAGES:
            choices = " or ".join(map(repr, _AVERAGES))
            raise ValueError(f"Ensemble: expected average {choices}, got {average!r}")
        for i, model in enumerate(members):
            if not isinstance(model, Module):
                raise TypeError(
                    f"Ensemble: expected Modules, got {type(model).__name__} at position {i}"
                )
            setattr(self, str(i), model)
        self.average = average

    def forward(self, input: Any) -> Any:
        """The average."""
        outputs = [model(input) for model in self]
        if self.average == "outputs":
            total = outputs[0]
            for output in outputs[1:]:
                total = total + output
            return total * (1.0 / len(outputs))
        shape = outputs[0].shape
        columns = [F.log_softmax(output).reshape(-1, 1) for output in outputs]
        return F.logsumexp(F.cat(columns, dim=1)).reshape(*shape) - math.log(len(outputs))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter([model for _, model in self.children()])

    def extra_repr(self) -> str:
        """What is averaged."""
        return f"average={self.average!r}"
