"""Metrics that stream: ``update`` with each part of the data, ``compute`` at the end, ``reset``.

They take arrays in NumPy and count in whole numbers or float64, so the parts may be cut anywhere.
"""

from fastnn.train.metrics.base import Metric, measure
from fastnn.train.metrics.classification import (
    ROCAUC,
    Accuracy,
    ConfusionMatrix,
    F1Score,
    Precision,
    Recall,
)
from fastnn.train.metrics.regression import MeanSquaredError, R2Score

__all__ = [
    "ROCAUC",
    "Accuracy",
    "ConfusionMatrix",
    "F1Score",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "measure",
]
