"""A model as data, and back. Layers come from a closed list: a file names no class, no module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn import nn, random

__all__ = ["build", "describe", "num_parameters"]

_MAX_LAYERS = 10_000
_MAX_SIZE = 1 << 40


def _size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_SIZE


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _integer(value: Any) -> bool:
    return type(value) is int


def _optional(value: Any) -> bool:
    return value is None or _number(value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _words(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 8 and all(_size(v) for v in value)


def _extent(value: Any) -> bool:
    """A size, one for each axis, or what stands for the input's."""
    return (
        value is None
        or _size(value)
        or (isinstance(value, list) and 0 < len(value) <= 2 and all(map(_extent, value)))
    )


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


_Fields = dict[str, Callable[[Any], bool]]
_WINDOW: _Fields = {
    "kernel_size": _extent,
    "stride": _extent,
    "padding": _extent,
    "ceil_mode": _flag,
}
_MAX_POOL: _Fields = {**_WINDOW, "dilation": _extent, "return_indices": _flag}
_AVG_POOL: _Fields = {**_WINDOW, "count_include_pad": _flag}
_CHANNEL_NORM: _Fields = {
    "num_features": _size,
    "eps": _number,
    "momentum": _optional,
    "affine": _flag,
    "track_running_stats": _flag,
}
_CONV: _Fields = {
    "in_channels": _size,
    "out_channels": _size,
    "kernel_size": _sizes,
    "stride": _extent,
    "padding": lambda v: v in ("same", "valid") or _extent(v),
    "dilation": _extent,
    "groups": _size,
    "bias": _flag,
}
_CELL: _Fields = {"input_size": _size, "hidden_size": _size, "bias": _flag}
_RECURRENT: _Fields = {
    **_CELL,
    "num_layers": _size,
    "batch_first": _flag,
    "dropout": _number,
    "bidirectional": _flag,
}
_PLAIN: _Fields = {"nonlinearity": _words("tanh", "relu")}
_GATED: _Fields = {"convention": _words("torch", "cho", "lectures")}

# layer -> the constructor's arguments and what each has to be; the attributes have the same names
# but for activations, which keep their one number as `a`.
_LAYERS: dict[str, tuple[type[nn.Module], _Fields]] = {
    "Linear": (nn.Linear, {"in_features": _size, "out_features": _size, "bias": _flag}),
    "Conv1d": (nn.Conv1d, _CONV),
    "Conv2d": (nn.Conv2d, _CONV),
    "ConvTranspose2d": (nn.ConvTranspose2d, {**_CONV, "output_padding": _extent}),
    "Flatten": (nn.Flatten, {"start_dim": _integer, "end_dim": _integer}),
    "LayerNorm": (
        nn.LayerNorm,
        {"normalized_shape": _sizes, "eps": _number, "elementwise_affine": _flag, "bias": _flag},
    ),
    "Dropout": (nn.Dropout, {"p": _number, "mode": _words("inverted", "vanilla")}),
    "Dropout1d": (nn.Dropout1d, {"p": _number}),
    "Dropout2d": (nn.Dropout2d, {"p": _number}),
    "AlphaDropout": (nn.AlphaDropout, {"p": _number}),
    "GaussianDropout": (nn.GaussianDropout, {"p": _number}),
    "PoissonDropout": (nn.PoissonDropout, {"p": _number}),
    "StochasticDepth": (
        nn.StochasticDepth,
        {"p": _number, "mode": _words("row", "batch"), "scaling": _words("inverted", "vanilla")},
    ),
    "DropConnect": (
        nn.DropConnect,
        {
            "in_features": _size,
            "out_features": _size,
            "bias": _flag,
            "p": _number,
            "mode": _words("inverted", "vanilla"),
            "inference": _words("mean", "sample"),
        },
    ),
    "Embedding": (
        nn.Embedding,
        {
            "num_embeddings": _size,
            "embedding_dim": _size,
            "padding_idx": lambda v: v is None or _size(v),
        },
    ),
    "MaxPool1d": (nn.MaxPool1d, _MAX_POOL),
    "MaxPool2d": (nn.MaxPool2d, _MAX_POOL),
    "AvgPool1d": (nn.AvgPool1d, _AVG_POOL),
    "AvgPool2d": (
        nn.AvgPool2d,
        {**_AVG_POOL, "divisor_override": lambda v: v is None or _integer(v)},
    ),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, {"output_size": _extent}),
    "AdaptiveMaxPool2d": (
        nn.AdaptiveMaxPool2d,
        {"output_size": _extent, "return_indices": _flag},
    ),
    "FractionalMaxPool2d": (
        nn.FractionalMaxPool2d,
        {
            "kernel_size": _extent,
            "output_size": _extent,
            "output_ratio": lambda v: v is None or _number(v) or _numbers(v),
            "return_indices": _flag,
            "pseudo_random": _flag,
        },
    ),
    "RMSNorm": (
        nn.RMSNorm,
        {"normalized_shape": _sizes, "eps": _optional, "elementwise_affine": _flag},
    ),
    "GroupNorm": (
        nn.GroupNorm,
        {"num_groups": _size, "num_channels": _size, "eps": _number, "affine": _flag},
    ),
    "BatchNorm1d": (nn.BatchNorm1d, _CHANNEL_NORM),
    "BatchNorm2d": (nn.BatchNorm2d, _CHANNEL_NORM),
    "InstanceNorm1d": (nn.InstanceNorm1d, _CHANNEL_NORM),
    "InstanceNorm2d": (nn.InstanceNorm2d, _CHANNEL_NORM),
    "RNN": (nn.RNN, {**_RECURRENT, **_PLAIN}),
    "LSTM": (nn.LSTM, _RECURRENT),
    "GRU": (nn.GRU, {**_RECURRENT, **_GATED}),
    "RNNCell": (nn.RNNCell, {**_CELL, **_PLAIN}),
    "LSTMCell": (nn.LSTMCell, _CELL),
    "GRUCell": (nn.GRUCell, {**_CELL, **_GATED}),
    "LeakyReLU": (nn.LeakyReLU, {"negative_slope": _number}),
    "ELU": (nn.ELU, {"alpha": _number}),
    "Softplus": (nn.Softplus, {"beta": _number}),
    "Swish": (nn.Swish, {"beta": _number, "trainable": _flag}),
    "PReLU": (nn.PReLU, {"num_parameters": _size, "init": _number}),
    "Maxout": (
        nn.Maxout,
        {"in_features": _size, "out_features": _size, "pieces": _size, "bias": _flag},
    ),
    "ReLU6": (nn.ReLU6, {}),
    "Hardsigmoid": (nn.Hardsigmoid, {}),
    "Hardswish": (nn.Hardswish, {}),
    "Hardtanh": (nn.Hardtanh, {"min_val": _number, "max_val": _number}),
    "GELU": (nn.GELU, {"approximate": _words("none", "tanh")}),
    "ReLU": (nn.ReLU, {}),
    "SELU": (nn.SELU, {}),
    "Sigmoid": (nn.Sigmoid, {}),
    "Tanh": (nn.Tanh, {}),
    "SiLU": (nn.SiLU, {}),
    "Softmax": (nn.Softmax, {}),
    "LogSoftmax": (nn.LogSoftmax, {}),
}
# What containers have besides their layers.
_CONTAINERS: dict[str, _Fields] = {
    "Sequential": {},
    "Ensemble": {"average": _words("probabilities", "outputs")},
}
_NAMES = {kind: name for name, (kind, _) in _LAYERS.items()}


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The model as JSON-like data; None if it has a layer that is not in the list.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.spec import describe
        >>> describe(fn.nn.Sequential(fn.nn.Linear(2, 1), fn.nn.Tanh()))["layers"][1]
        {'type': 'Tanh'}
    """
    if type(model) in (nn.Sequential, nn.Ensemble):
        layers = [describe(layer) for _, layer in model.children()]
        kind = {"type": type(model).__name__, "layers": layers}
        if isinstance(model, nn.Ensemble):
            kind["average"] = model.average
        return None if None in layers else kind
    name = _NAMES.get(type(model))
    if name is None or model._forward_hooks:
        return None
    return {"type": name, **{field: _value(model, field) for field in _LAYERS[name][1]}}


def _value(layer: Any, field: str) -> Any:
    if field == "bias":
        bias = getattr(layer, "linear", layer).bias
        return bias if _flag(bias) else bias is not None
    if field == "elementwise_affine":
        return layer.weight is not None
    if field in ("negative_slope", "alpha", "beta"):
        return layer.a
    if field == "trainable":
        return layer.beta is not None
    if field == "num_parameters":
        return layer.channels
    value = getattr(layer, field)
    return list(value) if isinstance(value, tuple) else value


def build(spec: Any) -> nn.Module:
    """The model that :func:`describe` described, with fresh parameters.

    The generators are left as they were.

    Raises:
        ValueError: If the description has an unknown layer or argument, or a value out of range.
    """
    check(spec)
    before = random.get_state()
    try:
        return _build(spec)
    finally:
        random.set_state(before)


def _build(spec: dict[str, Any]) -> nn.Module:
    if spec["type"] == "Sequential":
        return nn.Sequential(*(_build(layer) for layer in spec["layers"]))
    if spec["type"] == "Ensemble":
        return nn.Ensemble([_build(layer) for layer in spec["layers"]], spec["average"])
    kind, fields = _LAYERS[spec["type"]]
    return kind(**{field: spec[field] for field in fields})


def num_parameters(spec: Any) -> int:
    """Number of elements in the described model's state; nothing is allocated for it."""
    if spec["type"] in _CONTAINERS:
        return sum(num_parameters(layer) for layer in spec["layers"])
    if spec["type"] == "Swish":
        return int(spec["trainable"])
    if spec["type"] == "PReLU":
        return int(spec["num_parameters"])
    if spec["type"] == "Maxout":
        return int(spec["pieces"] * spec["out_features"] * (spec["in_features"] + spec["bias"]))
    if spec["type"] in ("Linear", "DropConnect"):
        return int(spec["out_features"] * (spec["in_features"] + spec["bias"]))
    if spec["type"] == "Embedding":
        return int(spec["num_embeddings"] * spec["embedding_dim"])
    if spec["type"] == "LayerNorm" and spec["elementwise_affine"]:
        return int(math.prod(spec["normalized_shape"]) * (1 + spec["bias"]))
    if spec["type"] == "RMSNorm" and spec["elementwise_affine"]:
        return int(math.prod(spec["normalized_shape"]))
    if spec["type"] == "GroupNorm":
        return int(2 * spec["num_channels"] * spec["affine"])
    if "in_channels" in spec:
        window = math.prod(spec["kernel_size"]) * spec["in_channels"] // spec["groups"]
        return int(spec["out_channels"] * (window + spec["bias"]))
    if "hidden_size" in spec:
        return _recurrent_parameters(spec)
    if "track_running_stats" in spec:  # mean, variance and the count
        channels, tracked = spec["num_features"], spec["track_running_stats"]
        return int(2 * channels * spec["affine"] + (2 * channels + 1) * tracked)
    return 0


def _recurrent_parameters(spec: Any) -> int:
    gates = {"R": 1, "L": 4, "G": 3}[spec["type"][0]]
    hidden, directions = spec["hidden_size"], 1 + spec.get("bidirectional", False)
    above = spec.get("num_layers", 1) - 1
    per_gate = spec["input_size"] + above * directions * hidden
    per_gate += (1 + above) * (hidden + 2 * spec["bias"])
    return int(gates * directions * hidden * per_gate)


def check(spec: Any, depth: int = 0) -> int:
    """Raise ValueError unless the description is one; returns its number of layers."""
    if not isinstance(spec, dict) or depth > 16:
        raise ValueError("model: expected nested layers, at most 16 deep")
    name = spec.get("type")
    own = _CONTAINERS.get(name) if isinstance(name, str) else None
    if (
        own is not None
        and spec.keys() == {"type", "layers", *own}
        and isinstance(spec["layers"], list)
        and all(is_valid(spec[field]) for field, is_valid in own.items())
    ):
        count = sum(check(layer, depth + 1) for layer in spec["layers"])
        if count > _MAX_LAYERS:
            raise ValueError(f"model: expected at most {_MAX_LAYERS} layers, got {count}")
        return count
    if not isinstance(name, str) or name not in _LAYERS:
        raise ValueError(f"model: expected a layer of {', '.join(_LAYERS)}, got {str(name)[:80]!r}")
    fields = _LAYERS[name][1]
    if spec.keys() != {"type", *fields}:
        raise ValueError(f"model: expected {name} with the arguments {list(fields)}")
    for field, is_valid in fields.items():
        if not is_valid(spec[field]):
            raise ValueError(
                f"model: expected a valid {field} of {name}, got {str(spec[field])[:80]!r}"
            )
    return 1
