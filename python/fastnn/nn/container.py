"""Sequential, which fuses a linear layer, a convolution or a norm with the activation after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnn.nn.activation import _Activation
from fastnn.nn.conv import _Conv
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.nn.norm import GroupNorm, LayerNorm, RMSNorm, _ChannelNorm

__all__ = ["Sequential"]

_TAKES_ACTIVATION = (Linear, _Conv, LayerNorm, RMSNorm, GroupNorm, _ChannelNorm)


class Sequential(Module):
    """Layers applied one after the other.

    A Linear, a convolution or a norm and the activation after it run as one kernel, unless one of
    them has a hook.

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
            following = layers[i + 1] if i + 1 < len(layers) else None
            if _fuses(layer, following):
                input = layer(input, activation=following.fused)  # type: ignore[union-attr]
                i += 2
            else:
                input = layer(input)
                i += 1
        return input

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        layer: Module = getattr(self, str(range(len(self))[index]))
        return layer

    def __iter__(self) -> Iterator[Module]:
        return iter([layer for _, layer in self.children()])


def _fuses(layer: Module, following: Module | None) -> bool:
    return (
        isinstance(layer, _TAKES_ACTIVATION)
        and isinstance(following, _Activation)
        and not layer._forward_hooks
        and not following._forward_hooks
    )
