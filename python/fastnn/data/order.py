"""In which order an epoch takes its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Indices", "Sampler", "epoch_order"]

Indices = np.ndarray[Any, np.dtype[np.int64]]
Sampler = Callable[[int, int, int], "ArrayLike"]


def epoch_order(
    op: str, shuffle: bool | Sampler, samples: int, seed: int, epoch: int
) -> Indices | None:
    """The indices of an epoch; None for the order that the data have.

    Raises:
        ValueError: If a sampler gives other than indices of that many samples.

    Example:
        >>> from fastnn.data.order import epoch_order
        >>> sorted(epoch_order("fit", True, 4, 0, 0).tolist())
        [0, 1, 2, 3]
    """
    if not callable(shuffle):
        return random.permutation(samples, seed, epoch) if shuffle else None
    order = np.asarray(shuffle(samples, seed, epoch))
    if order.shape != (samples,) or order.dtype.kind not in "iu":
        raise ValueError(
            f"{op}: expected a sampler that gives {samples} indices, got shape {order.shape} of "
            f"{order.dtype}"
        )
    bad = (order < 0) | (order >= samples)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"{op}: expected a sampler that gives indices below {samples}, got {order[at]} at {at}"
        )
    return order.astype(np.int64, copy=False)
