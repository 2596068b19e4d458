"""Learning rates and momentum in memory that recorded steps read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import _core
from fastnn.tensor import Tensor

__all__ = ["RateTable"]


class RateTable:
    """Learning rate and momentum of the steps to come: each step takes the next.

    An optimizer with one, ``optimizer.table``, takes them from there rather than from its groups,
    so that many steps of a schedule replay in one native call.

    Args:
        steps: The most steps it has to hold; no more may be taken than were written.
        groups: Groups of the optimizer.
        device: Where the kernels run.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.SGD([w])
        >>> optimizer.table = fn.optim.rates.RateTable(steps=2, groups=1, device="cpu")
        >>> optimizer.table.write([[(0.5, 0.0)], [(0.25, 0.0)]])
        >>> for _ in range(2):
        ...     w.grad = fn.tensor([1.0])
        ...     optimizer.step()
        >>> w.item()
        0.25
    """

    def __init__(self, steps: int, groups: int, device: str) -> None:
        self._bits = [_integers(np.zeros((steps, 2)), device) for _ in range(groups)]  # float64
        self._index = _integers(np.arange(steps), device)
        self._cursor = _integers(np.zeros(1), device)

    def write(self, rates: Iterable[Iterable[tuple[float, float]]]) -> None:
        """Set (rate, momentum) of all groups for each step; the next step takes the first."""
        values = np.array(list(rates), np.float64).reshape(-1, len(self._bits), 2)
        for group, bits in enumerate(self._bits):
            padded = np.zeros(bits.shape, np.float64)
            padded[: len(values)] = values[:, group]
            bits.copy_(padded.view(np.int64))
        self._cursor.copy_(np.zeros(1, np.int64))

    def take(self) -> list[Tensor]:
        """Those of each group for this step, as the kernels read them."""
        rates: Any = [_core.gather(bits, self._index, self._cursor, 1) for bits in self._bits]
        _core.advance(self._cursor, 1)
        return rates  # type: ignore[no-any-return]


def _integers(values: Any, device: str) -> Tensor:
    result: Tensor = _core.to_device(_core.clone(values.astype(np.int64)), device)
    return result
