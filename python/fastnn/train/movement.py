"""How far the weights are from where a training began, which tells what the rate does to them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import nn

__all__ = ["Movement"]

_WATCHED = 100  # matrices, of all evenly
_LOOKED_AT = 4096  # entries of each, likewise


class Movement:
    """How far each matrix of weights has moved: ||w - w_0|| / ||w_0||.

    It is measured after epochs 1, 2, 4, 8 and so on, on 4,096 entries of each of 100 at most, so
    that it costs next to nothing. Matrices that begin as 0 are left out.

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
        ...     movement.measure(epoch)
        >>> [round(r, 4) for r in movement.ratios["weight"]]
        [2.0, 2.0]
    """

    def __init__(self, model: nn.Module) -> None:
        self.ratios: dict[str, list[float]] = {}
        self.gains: dict[str, float] = {}
        self._watched: list[tuple[list[float], Any, Any, float]] = []
        for name, w in _spread(_matrices(model), _WATCHED):
            start = _some(w)
            size = math.sqrt(start @ start)
            if size > 0:
                self.ratios[name] = []
                self.gains[name] = size * math.sqrt(math.prod(w.shape[1:]) / len(start))
                self._watched.append((self.ratios[name], w, start, size))

    def measure(self, epoch: int) -> None:
        """Measure after so many epochs, if their number is a power of two."""
        if epoch & (epoch - 1) == 0:
            for ratios, w, start, size in self._watched:
                moved = _some(w) - start
                ratios.append(math.sqrt(moved @ moved) / size)


def _matrices(model: nn.Module) -> list[tuple[str, Any]]:
    """By their paths, but for those whose rows are looked up: a step moves few of them."""
    tables = {id(m.weight) for _, m in model.named_modules() if isinstance(m, nn.Embedding)}
    parameters: Iterable[tuple[str, Any]] = model.named_parameters()
    return [(name, p) for name, p in parameters if p.ndim >= 2 and id(p) not in tables]


def _spread(values: Any, most: int) -> Any:
    """So many of them at most, from one end to the other."""
    return values[:: max(1, -(-len(values) // most))]


def _some(w: Any) -> Any:
    entries = np.asarray(w.detach().to("cpu")).reshape(-1)
    return _spread(entries, _LOOKED_AT).astype(np.float64)
