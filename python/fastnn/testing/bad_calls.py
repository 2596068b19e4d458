"""Wrong calls of the ops: what they have to raise, and the exact message."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import fastnn
from fastnn.testing.op import Array, Bad

__all__ = ["BAD", "zeros"]

_F = fastnn.functional


def zeros(*shape: int) -> Array:
    """Zeros of float32."""
    return np.zeros(shape, np.float32)


BAD: Mapping[str, tuple[Bad, ...]] = {
    "linear": (
        Bad(
            lambda: _F.linear(zeros(32, 100), zeros(64, 128)),
            ValueError,
            "linear: expected input.shape[-1] == 128 to fit weight (64, 128), got input (32, 100)",
        ),
        Bad(
            lambda: _F.linear(zeros(2, 3), zeros(4, 3), zeros(3)),
            ValueError,
            "linear: expected bias of shape (4,) to fit weight (4, 3), got (3,)",
        ),
        Bad(
            lambda: _F.linear(zeros(2, 3), zeros(3)),
            ValueError,
            "linear: expected weight of shape (out, in), got (3,)",
        ),
        Bad(
            lambda: _F.linear(zeros(), zeros(4, 3)),
            ValueError,
            "linear: expected input with at least one axis, got ()",
        ),
        Bad(
            lambda: _F.linear(np.zeros((2, 3), np.int64), zeros(4, 3)),
            TypeError,
            "linear: expected input of dtype float32, got int64",
        ),
        Bad(
            lambda: _F.linear(zeros(2, 3), fastnn.tensor(zeros(4, 3), "bfloat16")),
            TypeError,
            "linear: expected weight of dtype float32, got bfloat16",
        ),
        Bad(
            lambda: _F.linear(zeros(2, 3), zeros(4, 3), activation=("softplus", 0.0)),
            ValueError,
            "linear: expected softplus with beta > 0, got 0.0",
        ),
        Bad(
            lambda: _F.linear(zeros(2, 3), zeros(4, 3), activation="rely"),
            ValueError,
            "linear: expected activation to be one of relu, leaky_relu, elu, selu, sigmoid, tanh, "
            "softplus, silu, gelu, gelu_tanh, got 'rely'",
        ),
    ),
    "matmul": (
        Bad(
            lambda: fastnn.zeros(2, 3) @ zeros(4, 5),
            ValueError,
            "matmul: expected other.shape[0] == 3 to fit input (2, 3), got other (4, 5)",
        ),
        Bad(
            lambda: fastnn.zeros(3) @ zeros(3, 5),
            ValueError,
            "matmul: expected two matrices, got (3,) and (3, 5)",
        ),
    ),
    "layer_norm": (
        Bad(
            lambda: _F.layer_norm(zeros(2, 3), 4),
            ValueError,
            "layer_norm: expected input to end with normalized_shape (4,), got input (2, 3)",
        ),
        Bad(
            lambda: _F.layer_norm(zeros(2, 3), 3, zeros(2)),
            ValueError,
            "layer_norm: expected weight of shape (3,) to fit input (2, 3), got (2,)",
        ),
        Bad(
            lambda: _F.layer_norm(zeros(2, 3), 3, bias=zeros(3, 1)),
            ValueError,
            "layer_norm: expected bias of shape (3,) to fit input (2, 3), got (3, 1)",
        ),
        Bad(
            lambda: _F.layer_norm(zeros(2, 3), 3, eps=-1.0),
            ValueError,
            "layer_norm: expected eps >= 0, got -1",
        ),
        Bad(
            lambda: _F.layer_norm(zeros(2, 0), 0),
            ValueError,
            "layer_norm: expected at least one element to normalise, got input (2, 0)",
        ),
        Bad(
            lambda: _F.layer_norm(np.zeros((2, 3), np.int64), 3),
            TypeError,
            "layer_norm: expected a floating-point or uint8 Tensor, got int64",
        ),
    ),
    "cross_entropy": (
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), [0, 3]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got 3 at target[1]",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), [-1, 7]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got -1 at target[0]",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), [0, 2**32 + 1]),
            ValueError,
            "cross_entropy: expected 0 <= target < 3, got 4294967297 at target[1]",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), [0]),
            ValueError,
            "cross_entropy: expected target of shape (2,), one class index for each row of input "
            "(2, 3), got (1,)",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), zeros(2)),
            ValueError,
            "cross_entropy: expected target probabilities of shape (2, 3) like input, got (2,)",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), np.zeros(2, np.uint8)),
            TypeError,
            "cross_entropy: expected target of int64 class indices or float32 "
            "probabilities, got uint8",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(0, 3), np.zeros(0, np.int64)),
            ValueError,
            "cross_entropy: expected at least one row for reduction 'mean', got input (0, 3)",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 0), np.zeros(2, np.int64)),
            ValueError,
            "cross_entropy: expected 0 <= target < 0, got 0 at target[0]",
        ),
        Bad(
            lambda: _F.cross_entropy(zeros(2, 3), [0, 1], "max"),
            ValueError,
            "cross_entropy: expected reduction 'mean', 'sum' or 'none', got 'max'",
        ),
        Bad(
            lambda: _F.cross_entropy(np.array([[np.nan, 0]], np.float32), [0], check_finite=True),
            ValueError,
            "loss: expected a finite value, got NaN or infinity; lower the learning rate, or look "
            "for bad values in the data; nothing was updated",
        ),
    ),
    "dropout": (
        Bad(
            lambda: _F.dropout(zeros(2), 1.5), ValueError, "dropout: expected 0 <= p <= 1, got 1.5"
        ),
        Bad(
            lambda: _F.dropout(zeros(2), -0.1),
            ValueError,
            "dropout: expected 0 <= p <= 1, got -0.1",
        ),
        Bad(
            lambda: _F.dropout(zeros(2), float("nan")),
            ValueError,
            "dropout: expected 0 <= p <= 1, got nan",
        ),
        Bad(
            lambda: _F.dropout(np.zeros(2, np.int64)),
            TypeError,
            "dropout: expected a floating-point or uint8 Tensor, got int64",
        ),
    ),
    "softplus": (
        Bad(
            lambda: _F.softplus(zeros(2), 0.0),
            ValueError,
            "softplus: expected beta > 0, got 0.0",
        ),
        Bad(
            lambda: _F.softplus(zeros(2), -1.0),
            ValueError,
            "softplus: expected beta > 0, got -1.0",
        ),
    ),
    "gelu": (
        Bad(
            lambda: _F.gelu(zeros(2), "erf"),
            ValueError,
            "gelu: expected approximate 'none' or 'tanh', got 'erf'",
        ),
    ),
    "add": (
        Bad(
            lambda: fastnn.zeros(2, 3) + zeros(3),
            ValueError,
            "add: expected other of shape (2, 3) like input, got (3,)",
        ),
    ),
    "mul": (
        Bad(
            lambda: fastnn.zeros(2) * fastnn.zeros(2, dtype="bfloat16"),
            TypeError,
            "mul: expected other of dtype float32 like input, got bfloat16",
        ),
    ),
    "mean": (
        Bad(
            lambda: fastnn.zeros(0).mean(),
            ValueError,
            "mean: expected at least one element, got shape (0,)",
        ),
    ),
}
