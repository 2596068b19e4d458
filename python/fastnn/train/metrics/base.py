"""Metric: what all metrics share, and measuring a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.train.members import by_member, predictions_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastnn import nn
    from fastnn.tensor import Tensor

__all__ = ["Array", "Metric", "measure"]

Array = np.ndarray[Any, Any]


class Metric:
    """Base of the metrics.

    Attributes:
        name: What it is called in logs.

    Example:
        >>> from fastnn.train.metrics import Accuracy
        >>> accuracy = Accuracy()
        >>> accuracy.update([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        >>> accuracy.update([[0.3, 0.7]], [1])
        >>> round(accuracy.compute(), 3)
        0.667
    """

    name = ""

    def reset(self) -> None:
        """Forget everything."""
        raise NotImplementedError(f"{type(self).__name__}: expected a reset method")

    def update(self, outputs: ArrayLike, y: ArrayLike) -> None:
        """Add samples: what the model puts out, and the truth."""
        raise NotImplementedError(f"{type(self).__name__}: expected an update method")

    def compute(self) -> float:
        """The value over all samples since the last reset; NaN if it is not defined."""
        raise NotImplementedError(f"{type(self).__name__}: expected a compute method")

    def _need(self, ok: bool, rule: str, got: Any) -> None:
        if not ok:
            raise ValueError(f"{type(self).__name__}: expected {rule}, got {got}")


def measure(
    metrics: Sequence[Metric], model: nn.Module, x: Tensor, y: Tensor, ignored: int | None = None
) -> dict[str, float]:
    """The metrics of a model on data, by name; labels to be ignored count in none."""
    if not metrics:
        return {}
    truth, each = np.asarray(y.to("cpu")), []
    for outputs in predictions_of(model, x.to("cpu")):
        kept: Any = ...
        if np.issubdtype(truth.dtype, np.integer) and outputs.shape[:-1] == truth.shape:
            kept = truth != ignored
        for metric in metrics:
            metric.reset()
            metric.update(outputs[kept], truth[kept])
        each.append({metric.name: metric.compute() for metric in metrics})
    return by_member(each)
