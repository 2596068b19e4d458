"""Initialising the weights of a whole model, by its activations or by what it does to data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn._checks import checked
from fastnn.nn.init.fill import constant_
from fastnn.nn.init.scaled import kaiming_normal_, lecun_normal_, orthogonal_, xavier_normal_

if TYPE_CHECKING:
    from fastnn.nn.module import Module

__all__ = ["auto_", "lsuv_"]

# Activations by class name: this file is imported before the classes are.
_RECTIFIERS = ("ReLU", "ReLU6", "ELU", "GELU", "SiLU", "Swish", "Hardswish", "Softplus")
_OTHERS = ("SELU", "Sigmoid", "Hardsigmoid", "Tanh", "Softmax", "LogSoftmax")


@checked
def auto_(model: Module, bias: float = 0.0) -> Module:
    """Draw all weights anew, each for the activation that follows it, in place.

    He's :func:`kaiming_normal_` before ReLU and its relatives (with the slope of LeakyReLU and
    PReLU), :func:`lecun_normal_` before SELU, :func:`xavier_normal_` before activations symmetric
    about 0, sigmoids and where none follows. Layers count in the order in which they were made;
    norms, dropout and pooling between weight and activation are passed over. Layers are made with
    torch's defaults; this is for deep networks, where those let the signal die away.

    Args:
        model: Its weights of at least two axes change, but for embeddings; and their biases.
        bias: What biases become; a small positive one such as 0.01 keeps ReLUs alive at first.

    Returns:
        The model.

    Example:
        >>> import fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(8, 9), fn.nn.ReLU(), fn.nn.Linear(9, 2))
        >>> fn.nn.init.auto_(model, bias=0.01)[0].bias.detach().numpy()[:2]
        array([0.01, 0.01], dtype=float32)

    Source:
        He et al. 2015, "Delving deep into rectifiers"; Glorot, Bengio 2010, "Understanding the
        difficulty of training deep feedforward networks".
    """
    modules: list[Any] = [module for _, module in model.named_modules()]
    following = None
    for module in reversed(modules):
        if _has_weight(module):
            _draw(module.weight, following)
            _fill_bias(module, bias)
            following = None
        elif type(module).__name__ in (*_RECTIFIERS, *_OTHERS, "LeakyReLU", "PReLU"):
            following = module
    return model


@checked
def lsuv_(
    model: Module, x: Any, *, tol: float = 0.1, max_iterations: int = 10, orthogonal: bool = True
) -> Module:
    """Scale each layer's weights until its outputs on a batch have variance 1, in place.

    From the first layer to the last: orthogonal weights, then W /= std(W x) until
    |Var(W x) - 1| < tol. It asks for no formula of fans or gains, and so fits any architecture.

    Args:
        model: Its layers with weights of at least two axes change, but for embeddings; biases
            become zeros.
        x: A batch of inputs, some hundred samples of the data.
        tol: How far from 1 the variance may stay.
        max_iterations: How often a layer is scaled at most.
        orthogonal: Whether to begin with :func:`orthogonal_` rather than with the weights there
            are.

    Returns:
        The model.

    Raises:
        ValueError: If tol is not positive, max_iterations is less than 1, or a layer's outputs are
            constant or not finite; the message names it.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> x = np.random.default_rng(0).normal(size=(200, 8))
        >>> model = fn.nn.Sequential(fn.nn.Linear(8, 9), fn.nn.ReLU(), fn.nn.Linear(9, 2))
        >>> bool(abs(fn.nn.init.lsuv_(model, x).predict(x).var() - 1) < 0.1)
        True

    Source:
        Mishkin, Matas 2016, "All you need is a good init".
    """
    if not tol > 0:
        raise ValueError(f"lsuv_: expected tol > 0, got {tol}")
    if max_iterations < 1:
        raise ValueError(f"lsuv_: expected max_iterations >= 1, got {max_iterations}")
    modules: dict[str, Any] = dict(model.named_modules())
    layers = {path: module for path, module in modules.items() if _has_weight(module)}
    if orthogonal:
        for module in layers.values():
            orthogonal_(module.weight)
    for module in layers.values():
        _fill_bias(module, 0.0)
    for path in _outputs(model, layers, x):
        for _ in range(max_iterations):
            variance = _variance(model, path, layers[path], x)
            if not 0 < variance < math.inf:
                raise ValueError(
                    f"lsuv_: expected outputs that vary and are finite, got variance {variance:.4g}"
                    f" in layer {path!r}"
                )
            if abs(variance - 1) < tol:
                break
            weight = layers[path].weight.detach()
            weight.copy_(weight * variance**-0.5)
    return model


def _has_weight(module: Any) -> bool:
    """Whether it mixes its inputs: norms scale them one by one, embeddings look rows up."""
    name = type(module).__name__
    return (
        "weight" in module._parameters
        and module.weight.ndim >= 2
        and not name.endswith("Norm")
        and name != "Embedding"
    )


def _draw(weight: Any, activation: Any) -> None:
    name = type(activation).__name__
    if name == "SELU":
        lecun_normal_(weight)
    elif name in _RECTIFIERS:
        kaiming_normal_(weight)
    elif name in ("LeakyReLU", "PReLU"):
        kaiming_normal_(weight, activation.a if name == "LeakyReLU" else activation.init)
    else:
        xavier_normal_(weight)


def _fill_bias(module: Any, value: float) -> None:
    if getattr(module, "bias", None) is not None:
        constant_(module.bias, value)


def _outputs(model: Module, layers: dict[str, Any], x: Any) -> dict[str, Any]:
    """What each layer puts out, before any activation, in the order of their calls.

    A layer with a hook is not fused with its activation.
    """
    outputs: dict[str, Any] = {}
    removers = [
        layer.register_forward_hook(lambda m, args, y, path=path: outputs.update({path: y}))
        for path, layer in layers.items()
    ]
    try:
        model.predict(x, batch_size=len(x))
    finally:
        for remove in removers:
            remove()
    return outputs


def _variance(model: Module, path: str, layer: Any, x: Any) -> float:
    outputs = _outputs(model, {path: layer}, x)[path].to("cpu")
    return float(np.var(np.asarray(outputs), dtype=np.float64))
