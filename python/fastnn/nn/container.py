"""Sequential, which fuses a linear layer, a convolution or a norm with the activation after it, and
a linear layer or a norm with the dropout after that, a convolution with max pooling."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from fastnn import _core
from fastnn.capture import note_module
from fastnn.nn.activation import _Activation
from fastnn.nn.conv import _Conv
from fastnn.nn.dropout import Dropout
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.nn.norm import GroupNorm, LayerNorm, RMSNorm, _ChannelNorm
from fastnn.nn.pool import MaxPool2d

__all__ = ["Sequential"]

_FUSING = (Linear, _Conv, LayerNorm, RMSNorm, GroupNorm, _ChannelNorm)


@functools.cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    """Their names: a subclass has a forward of its own, which may take less."""
    return frozenset(inspect.signature(forward).parameters)


class Sequential(Module):
    """Layers applied one after the other.

    A Linear, a convolution or a norm and the activation after it run as one kernel, and so does
    dropout after a Linear or a norm (and its activation), and so does MaxPool2d(2) after a Conv2d
    (and its activation), unless one of them has a hook. The results have the bits of layers applied
    one by one.

    Example:
        >>> import fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(4, 3), fn.nn.ReLU(), fn.nn.Linear(3, 2))
        >>> model([[1.0, 2.0, 3.0, 4.0]]).shape
        (1, 2)
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(
                    f"Sequential: expected Modules, got {type(layer).__name__} at position {i}"
                )
            setattr(self, str(i), layer)

    def forward(self, input: Any) -> Any:
        """Apply the layers in order."""
        layers = [layer for _, layer in self.children()]
        i = 0
        while i < len(layers):
            layer = layers[i]
            fused = _fused(layer, layers[i + 1 : i + 4])
            input = layer(input, **fused)
            i += 1 + len(fused)
        return input

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        layer: Module = getattr(self, str(range(len(self))[index]))
        return layer

    def __iter__(self) -> Iterator[Module]:
        return iter([layer for _, layer in self.children()])


def _fused(layer: Module, following: list[Module]) -> dict[str, Any]:
    """The arguments of a layer that make the next ones part of it, one each."""
    fused: dict[str, Any] = {}
    if not isinstance(layer, _FUSING) or layer._forward_hooks:
        return fused
    takes = _arguments(type(layer).forward)
    for after, behind in itertools.zip_longest(following[:2], following[1:3]):
        if after._forward_hooks:
            break
        activation = after.fused if isinstance(after, _Activation) else None
        if activation is not None and "activation" in takes and not fused:
            fused["activation"] = activation
        elif type(after) is Dropout and "dropout_p" in takes:
            if after.mode != "inverted":
                break
            if _core.is_recording():
                note_module(after)
            fused["dropout_p"] = after.p if after.training else 0.0
            break
        elif type(after) is MaxPool2d and "max_pool" in takes and after.fused:
            # Its result is what the derivative is made of: nobody may write over it.
            if not getattr(behind, "inplace", False):
                fused["max_pool"] = after.fused
            break
        else:
            break
    return fused
