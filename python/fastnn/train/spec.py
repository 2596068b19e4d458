"""A model as data, and back. Layers come from a closed list: a file names no class, no module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn import nn, random
from fastnn.functional.activation import resolve_activation

__all__ = ["build", "describe"]

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


def _activation(value: Any) -> bool:
    """What :func:`fastnn.functional.add` can apply to a sum; a tuple is a list in JSON."""
    if value is None:
        return True
    name, a = value if isinstance(value, list) and len(value) == 2 else (value, None)
    if not isinstance(name, str) or not _optional(a):
        return False
    try:
        resolve_activation("model", name if a is None else (name, a))
    except ValueError:
        return False
    return True


_Fields = dict[str, Callable[[Any], bool]]
_WINDOW: _Fields = {
    "kernel_size": _extent,
    "stride": _extent,
    "padding": _extent,
    "ceil_mode": _flag,
}
_MAX_POOL: _Fields = {**_WINDOW, "dilation": _extent, "return_indices": _flag}
_AVG_POOL: _Fields = {**_WINDOW, "count_include_pad": _flag}
_ADAPTIVE_MAX_POOL: _Fields = {"output_size": _extent, "return_indices": _flag}
_CHANNEL_NORM: _Fields = {
    "num_features": _size,
    "eps": _number,
    "momentum": _optional,
    "affine": _flag,
    "track_running_stats": _flag,
}
_CHANNELS: _Fields = {"in_channels": _size, "out_channels": _size}
_CONV: _Fields = {
    **_CHANNELS,
    "kernel_size": _sizes,
    "stride": _extent,
    "padding": lambda v: v in ("same", "valid") or _extent(v),
    "dilation": _extent,
    "groups": lambda v: _size(v) and v > 0,
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
_BLOCK: _Fields = {**_CHANNELS, "stride": _size, "zero_init": _flag}

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
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d, {"output_size": _extent}),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, {"output_size": _extent}),
    "AdaptiveMaxPool1d": (nn.AdaptiveMaxPool1d, _ADAPTIVE_MAX_POOL),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d, _ADAPTIVE_MAX_POOL),
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
    "LayerNormLSTM": (nn.LayerNormLSTM, {**_RECURRENT, "eps": _number}),
    "LayerNormLSTMCell": (nn.LayerNormLSTMCell, {**_CELL, "eps": _number}),
    "GRUCell": (nn.GRUCell, {**_CELL, **_GATED}),
    "BasicBlock": (nn.BasicBlock, _BLOCK),
    "Bottleneck": (nn.Bottleneck, _BLOCK),
    "DenseBlock": (
        nn.DenseBlock,
        {
            "num_layers": _size,
            "in_channels": _size,
            "growth_rate": _size,
            "bn_size": lambda v: v is None or _size(v),
            "drop_rate": _number,
        },
    ),
    "Transition": (nn.Transition, _CHANNELS),
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
# container -> its class, how many layers it takes, and what it has besides them.
_CONTAINERS: dict[str, tuple[type[nn.Module], range, _Fields]] = {
    "Sequential": (nn.Sequential, range(_MAX_LAYERS + 1), {}),
    "Ensemble": (
        nn.Ensemble,
        range(1, _MAX_LAYERS + 1),
        {"average": _words("probabilities", "outputs")},
    ),
    "Residual": (nn.Residual, range(1, 3), {"activation": _activation}),  # a body, a shortcut
}
_NAMES = {kind: name for name, (kind, *_) in (*_LAYERS.items(), *_CONTAINERS.items())}


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The model as JSON-like data; None if it has a layer that is not in the list.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.spec import describe
        >>> describe(fn.nn.Sequential(fn.nn.Linear(2, 1), fn.nn.Tanh()))["layers"][1]
        {'type': 'Tanh'}
    """
    name = _NAMES.get(type(model))
    if name is None or any(module._forward_hooks for _, module in model.named_modules()):
        return None
    if name not in _CONTAINERS:
        return {"type": name, **{field: _value(model, field) for field in _LAYERS[name][1]}}
    layers = [describe(layer) for _, layer in model.children()]
    if None in layers:
        return None
    own = {field: _value(model, field) for field in _CONTAINERS[name][2]}
    return {"type": name, "layers": layers, **own}


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
    if spec["type"] in _CONTAINERS:
        return _build_container(spec)
    kind, fields = _LAYERS[spec["type"]]
    return kind(**{field: spec[field] for field in fields})


def _build_container(spec: dict[str, Any]) -> nn.Module:
    layers = [_build(layer) for layer in spec["layers"]]
    if spec["type"] == "Residual":
        fused = spec["activation"]
        activation = (fused[0], fused[1]) if isinstance(fused, list) else fused
        return nn.Residual(layers[0], layers[1] if len(layers) == 2 else None, activation)
    if spec["type"] == "Ensemble":
        return nn.Ensemble(layers, spec["average"])
    return nn.Sequential(*layers)


def check(spec: Any, depth: int = 0) -> int:
    """Raise ValueError unless the description is one; returns its number of layers."""
    if not isinstance(spec, dict) or depth > 16:
        raise ValueError("model: expected nested layers, at most 16 deep")
    name = spec.get("type")
    if isinstance(name, str) and name in _CONTAINERS:
        _check_container(spec)
        count = sum(check(layer, depth + 1) for layer in spec["layers"])
        if count > _MAX_LAYERS:
            raise ValueError(f"model: expected at most {_MAX_LAYERS} layers, got {count}")
        return count
    if not isinstance(name, str) or name not in _LAYERS:
        known = ", ".join((*_LAYERS, *_CONTAINERS))
        raise ValueError(f"model: expected a layer of {known}, got {str(name)[:80]!r}")
    _check_fields(spec, _LAYERS[name][1])
    return 1


def _check_container(spec: dict[str, Any]) -> None:
    name, (_, numbers, own) = spec["type"], _CONTAINERS[spec["type"]]
    _check_fields(spec, {"layers": lambda v: isinstance(v, list), **own})
    if len(spec["layers"]) not in numbers:
        raise ValueError(
            f"model: expected {numbers[0]} to {numbers[-1]} layers of {name}, "
            f"got {len(spec['layers'])}"
        )


def _check_fields(spec: dict[str, Any], fields: _Fields) -> None:
    name = spec["type"]
    if spec.keys() != {"type", *fields}:
        raise ValueError(f"model: expected {name} with the arguments {list(fields)}")
    for field, is_valid in fields.items():
        if not is_valid(spec[field]):
            raise ValueError(
                f"model: expected a valid {field} of {name}, got {str(spec[field])[:80]!r}"
            )
