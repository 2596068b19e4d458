"""In which order an epoch takes its samples: a function of (samples, seed, epoch) and nothing else.

So a run that goes on after an interruption takes the same samples, whatever the sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BalancedSampler", "Indices", "Sampler", "WeightedSampler", "epoch_order"]

Indices = np.ndarray[Any, np.dtype[np.int64]]
Sampler = Callable[[int, int, int], "ArrayLike"]


class WeightedSampler:
    """Draws samples with replacement, each with a chance in proportion to its weight.

    Give it to ``Trainer.fit`` as ``shuffle``. An epoch has as many draws as there are samples.

    Args:
        weights: A weight >= 0 for each sample, shape (n,); None for equal chances.

    Raises:
        ValueError: If the weights are no finite numbers >= 0 with a sum > 0.

    Example:
        >>> from fastnn.train import WeightedSampler
        >>> WeightedSampler([0.0, 1.0, 0.0])(3, seed=0, epoch=0)
        array([1, 1, 1])
    """

    def __init__(self, weights: ArrayLike | None = None) -> None:
        self.weights = None if weights is None else np.array(weights, np.float64)
        if self.weights is None:
            return
        w = self.weights
        if w.ndim != 1 or not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
            raise ValueError(
                f"{type(self).__name__}: expected finite weights >= 0 of shape (n,) with a sum "
                f"> 0, got shape {w.shape}"
            )

    def __call__(self, samples: int, seed: int, epoch: int) -> Indices:
        """The indices of an epoch.

        Raises:
            ValueError: If there are not as many samples as weights.
        """
        if self.weights is not None and len(self.weights) != samples:
            raise ValueError(
                f"{type(self).__name__}: expected the {len(self.weights)} samples it was made for, "
                f"got {samples}"
            )
        weights = np.ones(samples) if self.weights is None else self.weights
        reach = np.cumsum(weights)
        draws = random.uniform(samples, seed, epoch)
        return np.searchsorted(reach / reach[-1], draws, side="right").astype(np.int64)


class BalancedSampler(WeightedSampler):
    """Draws every class equally often, with replacement, however rare it is.

    Args:
        y: The classes of the samples, shape (n,).

    Example:
        >>> import numpy as np
        >>> from fastnn.train import BalancedSampler
        >>> y = np.repeat([0, 1], [900, 100])
        >>> int(y[BalancedSampler(y)(1000, seed=0, epoch=0)].sum())
        500

    Source:
        Chawla, Bowyer, Hall, Kegelmeyer 2002, section 3: over-sampling with replacement.
    """

    def __init__(self, y: ArrayLike) -> None:
        labels = np.asarray(y)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(
                f"BalancedSampler: expected y of shape (n,), not empty, got {labels.shape}"
            )
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        super().__init__(1.0 / counts[place])


def epoch_order(shuffle: bool | Sampler, samples: int, seed: int, epoch: int) -> Indices | None:
    """The indices of an epoch; None for the order that the data have.

    Raises:
        ValueError: If a sampler gives other than indices of that many samples.

    Example:
        >>> from fastnn.train.sampler import epoch_order
        >>> sorted(epoch_order(True, 4, 0, 0).tolist())
        [0, 1, 2, 3]
    """
    if not callable(shuffle):
        return random.permutation(samples, seed, epoch) if shuffle else None
    order = np.asarray(shuffle(samples, seed, epoch))
    if order.shape != (samples,) or order.dtype.kind not in "iu":
        raise ValueError(
            f"fit: expected a sampler that gives {samples} indices, got shape {order.shape} of "
            f"{order.dtype}"
        )
    bad = (order < 0) | (order >= samples)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"fit: expected a sampler that gives indices below {samples}, got {order[at]} at {at}"
        )
    return order.astype(np.int64, copy=False)
