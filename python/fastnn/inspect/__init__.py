"""Looking into a model: what its layers put out, how gradients come back, what weights are like."""

from fastnn.inspect.activations import (
    ActivationStats,
    LayerStats,
    activation_stats,
    dead_relu_fraction,
)
from fastnn.inspect.summary import Summary
from fastnn.inspect.updates import UpdateRatio
from fastnn.inspect.weights import GradientFlow, SingularValues, gradient_flow, singular_values

__all__ = [
    "ActivationStats",
    "GradientFlow",
    "LayerStats",
    "SingularValues",
    "Summary",
    "UpdateRatio",
    "activation_stats",
    "dead_relu_fraction",
    "gradient_flow",
    "singular_values",
]
