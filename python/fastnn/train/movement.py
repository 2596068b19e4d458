"""How far the weights are from where a training began, which tells what the rate does to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import nn

__all__ = ["Movement"]

_LOOKED_AT = 4096  # entries of each matrix, evenly spaced


class Movement:
    """How far each matrix of weights has moved: ||w - w_0|| / ||w_0||.

    It is measured after epochs 1, 2, 4, 8 and so on, on 4,096 entries of each at most, so that it
    costs next to nothing. Matrices that begin as 0 are left out.

    Args:
        model: As it is before the first step.

    Attributes:
        ratios: What was measured, after 2^i epochs at index i, by the matrix' path.
        gains: What each matrix began with: the root mean square of its entries, times the root of
            its fan-in; sqrt(2) for He's.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.movement import Movement
        >>> model = fn.nn.Linear(2, 2)
        >>> movement = Movement(model)
        >>> _ = model.weight.copy_(3 * model.weight.detach())
        >>> for epoch in (1, 2, 3):
        ...     movement.measure(model, epoch)
        >>> [round(r, 4) for r in movement.ratios["weight"]]
        [2.0, 2.0]
    """

    def __init__(self, model: nn.Module) -> None:
        self._start = {name: w for name, w in _weights(model).items() if w.any()}
        self.gains = {name: _gain(p) for name, p in _matrices(model) if name in self._start}
        self.ratios: dict[str, list[float]] = {name: [] for name in self._start}

    def measure(self, model: nn.Module, epoch: int) -> None:
        """Measure after so many epochs, if their number is a power of two."""
        if epoch & (epoch - 1):
            return
        now = _weights(model)
        if any(name not in now or len(now[name]) != len(w) for name, w in self._start.items()):
            return  # layers were replaced
        for name, before in self._start.items():
            moved = now[name] - before
            self.ratios[name].append(float(np.sqrt((moved @ moved) / (before @ before))))


def _weights(model: nn.Module) -> dict[str, Any]:
    return {name: _some(p) for name, p in _matrices(model)}


def _matrices(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """But for those whose rows are looked up: a step moves few of them."""
    tables = {id(m.weight) for _, m in model.named_modules() if isinstance(m, nn.Embedding)}
    for name, p in model.named_parameters():
        if p.ndim >= 2 and id(p) not in tables:
            yield name, p


def _some(w: Any) -> Any:
    flat = np.asarray(w.detach().to("cpu")).reshape(-1)
    return flat[:: -(-flat.size // _LOOKED_AT)].astype(np.float64)


def _gain(w: Any) -> float:
    return float(np.sqrt(np.square(_some(w)).mean() * np.prod(w.shape[1:])))
