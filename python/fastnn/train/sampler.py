"""In which order an epoch takes its samples: a function of (samples, seed, epoch) and nothing else.

So a run that goes on after an interruption takes the same samples, whatever the sampler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn import random
from fastnn.data.order import Indices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BalancedSampler", "WeightedSampler"]


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
