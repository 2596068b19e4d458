"""Elements of a described model's state, counted before anything is allocated for it.

What a file claims is compared with the tensors that it holds; so the time spent here must not
depend on the numbers in it either: sums over layers are in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn import nn
from fastnn.nn.recurrent_cell import LayerNormed, Weighted

__all__ = ["num_parameters"]

Spec = dict[str, Any]


def _batch_norm(channels: int) -> int:
    """Weight, bias, mean and variance, and the count."""
    return 4 * channels + 1


def _convolved(inputs: int, outputs: int, size: int) -> int:
    """A convolution without bias, and the norm of its output."""
    return size * size * inputs * outputs + _batch_norm(outputs)


def _residual_convs(spec: Spec, widths: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    total = sum(map(_convolved, widths, widths[1:], sizes))
    if spec["stride"] != 1 or widths[0] != widths[-1]:
        total += _convolved(widths[0], widths[-1], 1)
    return total


def _basic_block(spec: Spec) -> int:
    inputs, outputs = spec["in_channels"], spec["out_channels"]
    return _residual_convs(spec, (inputs, outputs, outputs), (3, 3))


def _bottleneck(spec: Spec) -> int:
    inputs, outputs = spec["in_channels"], spec["out_channels"]
    return _residual_convs(spec, (inputs, outputs // 4, outputs // 4, outputs), (1, 3, 1))


def _dense_block(spec: Spec) -> int:
    layers: int = spec["num_layers"]
    growth: int = spec["growth_rate"]
    # Layer i reads in_channels + i growth channels; this is the sum of them.
    channels: int = layers * spec["in_channels"] + growth * (layers * (layers - 1) // 2)
    norms = 4 * channels + layers
    if spec["bn_size"] is None:
        return norms + 9 * growth * channels
    inner: int = spec["bn_size"] * growth
    return norms + inner * channels + layers * (_batch_norm(inner) + 9 * inner * growth)


def _transition(spec: Spec) -> int:
    inputs: int = spec["in_channels"]
    return _batch_norm(inputs) + inputs * int(spec["out_channels"])


def _linear(spec: Spec) -> int:
    return int(spec["out_features"] * (spec["in_features"] + spec["bias"]))


def _convolution(spec: Spec) -> int:
    window = math.prod(spec["kernel_size"]) * spec["in_channels"] // spec["groups"]
    return int(spec["out_channels"] * (window + spec["bias"]))


def _row_norm(spec: Spec) -> int:
    vectors = 1 + spec.get("bias", False) if spec["elementwise_affine"] else 0
    return math.prod(spec["normalized_shape"]) * vectors


def _channel_norm(spec: Spec) -> int:
    channels, tracked = spec["num_features"], spec["track_running_stats"]
    return int(2 * channels * spec["affine"] + (2 * channels + 1) * tracked)


def _recurrent(kind: type[Weighted]) -> Callable[[Spec], int]:
    def count(spec: Spec) -> int:
        hidden, directions = spec["hidden_size"], 1 + spec.get("bidirectional", False)
        layers = spec.get("num_layers", 1)
        features = spec["input_size"] + (layers - 1) * directions * hidden
        rows = kind.gates * (features + layers * hidden)
        vectors = 2 * kind.gates * spec["bias"]
        if issubclass(kind, LayerNormed):  # of gates twice, and of c: gains, and biases
            vectors = (2 * kind.gates + 1) * (1 + spec["bias"])
        return int(directions * hidden * (rows + layers * vectors))

    return count


_COUNTS: dict[str, Callable[[Spec], int]] = {
    "Swish": lambda spec: int(spec["trainable"]),
    "PReLU": lambda spec: int(spec["num_parameters"]),
    "Maxout": lambda spec: spec["pieces"] * _linear(spec),
    "Linear": _linear,
    "DropConnect": _linear,
    "Embedding": lambda spec: int(spec["num_embeddings"] * spec["embedding_dim"]),
    "LayerNorm": _row_norm,
    "RMSNorm": _row_norm,
    "GroupNorm": lambda spec: int(2 * spec["num_channels"] * spec["affine"]),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "InstanceNorm1d", "InstanceNorm2d"),
                    _channel_norm),
    **dict.fromkeys(("Conv1d", "Conv2d", "ConvTranspose2d"), _convolution),
    **{kind.__name__: _recurrent(kind) for kind in (
        nn.RNN, nn.LSTM, nn.GRU, nn.LayerNormLSTM,
        nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.LayerNormLSTMCell,
    )},
    "BasicBlock": _basic_block,
    "Bottleneck": _bottleneck,
    "DenseBlock": _dense_block,
    "Transition": _transition,
}  # fmt: skip


def num_parameters(spec: Spec) -> int:
    """Number of elements in the described model's state.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.spec import describe
        >>> from fastnn.train.sizes import num_parameters
        >>> num_parameters(describe(fn.nn.Sequential(fn.nn.Linear(2, 3), fn.nn.Tanh())))
        9
    """
    if "layers" in spec:
        return sum(map(num_parameters, spec["layers"]))
    count = _COUNTS.get(spec["type"])
    return 0 if count is None else count(spec)
