"""Gradient clipping, constraints on weights, and batch norm folded into the layer before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from fastnn import _core
from fastnn._checks import check_number, checked
from fastnn.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from fastnn.nn.linear import Linear
from fastnn.nn.module import parameter
from fastnn.nn.norm import BatchNorm1d, BatchNorm2d
from fastnn.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "fold_bn", "max_norm_", "soft_threshold_"]


def _tensors(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


@checked
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Scale the gradients in place so that their norm as one vector is at most max_norm.

    (sum |g|^p)^(1/p), accumulated in float64 and for other p than 1 and 2 relative to the largest:
    finite gradients never overflow it. To clip inside an update, see
    :meth:`fastnn.optim.Optimizer.step`.

    Args:
        parameters: Tensors; those without a gradient are skipped.
        max_norm: Upper bound, >= 0.
        norm_type: p > 0; ``inf`` is the largest magnitude.

    Returns:
        The norm before clipping, a float32 scalar.

    Raises:
        ValueError: If max_norm is negative, or a gradient is NaN or infinite: nothing is scaled.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([3.0, 4.0], requires_grad=True)
        >>> w.grad = fn.tensor([3.0, 4.0])
        >>> fn.nn.utils.clip_grad_norm_([w], 1.0).item()
        5.0
        >>> w.grad.numpy()
        array([0.6, 0.8], dtype=float32)

    Source:
        Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks".
    """
    check_number("clip_grad_norm_", "max_norm", max_norm)
    check_number("clip_grad_norm_", "norm_type", norm_type)
    grads = [p.grad for p in _tensors(parameters) if p.grad is not None]
    norm: Any = _core.clip_grad_norm(grads, max_norm, norm_type)
    return norm  # type: ignore[no-any-return]


@checked
def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Clamp the gradients in place to [-clip_value, clip_value].

    Args:
        parameters: Tensors; those without a gradient are skipped.
        clip_value: Upper bound of the magnitudes, >= 0.

    Raises:
        ValueError: If clip_value is negative, or a gradient is NaN or infinite: nothing is clipped.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0, 1.0], requires_grad=True)
        >>> w.grad = fn.tensor([0.25, -4.0])
        >>> fn.nn.utils.clip_grad_value_(w, 0.5)
        >>> w.grad.numpy()
        array([ 0.25, -0.5 ], dtype=float32)

    Source:
        Mikolov 2012, "Statistical language models based on neural networks".
    """
    check_number("clip_grad_value_", "clip_value", clip_value)
    grads = [p.grad for p in _tensors(parameters) if p.grad is not None]
    _core.clip_grad_value(grads, clip_value)


@checked
def max_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, *, squared: bool = False
) -> None:
    """Scale each unit's incoming weights in place to a Euclidean norm of at most max_norm.

    w_i *= min(1, max_norm / ||w_i||), w_i = w[i, ...]. As a constraint on training, see
    :class:`fastnn.optim.MaxNorm`.

    Args:
        parameters: Tensors of at least two axes, the first of which counts the units.
        max_norm: Upper bound, > 0.
        squared: Whether it is one of the squared norm.

    Raises:
        ValueError: If max_norm is not positive, or a parameter has fewer axes; nothing is changed.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> fn.nn.utils.max_norm_(w, 2.5)
        >>> w.numpy()
        array([[1.5, 2. ],
               [0. , 1. ]], dtype=float32)

    Source:
        Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    limit = math.sqrt(max_norm) if squared and max_norm > 0 else max_norm
    _core.max_norm(_tensors(parameters), limit)


@checked
def soft_threshold_(parameters: Iterable[Tensor] | Tensor, threshold: float) -> None:
    """Move each element in place by threshold towards 0, and to 0 exactly if it is closer.

    w = sign(w) max(|w| - threshold, 0): the proximal step of threshold sum |w|. As a penalty in
    training, see :class:`fastnn.optim.ProximalL1`.

    Args:
        parameters: Tensors.
        threshold: Finite, >= 0.

    Raises:
        ValueError: If the threshold is out of range; nothing is changed.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([0.25, -2.0])
        >>> fn.nn.utils.soft_threshold_(w, 0.5)
        >>> w.numpy()
        array([ 0. , -1.5], dtype=float32)

    Source:
        Donoho 1995, "De-noising by soft-thresholding".
    """
    _core.soft_threshold(_tensors(parameters), threshold, None)


_Foldable = TypeVar("_Foldable", Linear, Conv1d, Conv2d, ConvTranspose2d)


def fold_bn(layer: _Foldable, bn: BatchNorm1d | BatchNorm2d) -> _Foldable:
    """One layer that does what ``layer`` and then ``bn`` do in evaluation mode.

    With s = weight / sqrt(running_var + eps):  W' = s W,  b' = s (b - running_mean) + bias. The
    new weights are computed in float64 and share no memory with the old ones.

    Args:
        layer: The Linear or convolution before.
        bn: Batch norm over its outputs, with running statistics.

    Returns:
        A layer like the first with a bias, of the same device, in the same mode, without hooks.

    Raises:
        ValueError: If the sizes do not fit, or bn has no running statistics.

    Example:
        >>> import fastnn as fn
        >>> layer, norm = fn.nn.Linear(2, 3), fn.nn.BatchNorm1d(3)
        >>> fn.nn.utils.fold_bn(layer, norm)
        Linear(in_features=2, out_features=3)

    Source:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference".
    """
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("fold_bn: expected running statistics, got track_running_stats=False")
    fitting = BatchNorm1d if isinstance(layer, (Linear, Conv1d)) else BatchNorm2d
    if isinstance(layer, Linear):
        sizes, groups = (layer.in_features, layer.out_features), 1
    else:
        sizes, groups = (layer.in_channels, layer.out_channels), layer.groups
    if not isinstance(bn, fitting) or sizes[1] != bn.num_features:
        got = f"{bn.num_features} features" if isinstance(bn, fitting) else type(bn).__name__
        raise ValueError(
            f"fold_bn: expected {fitting.__name__}({sizes[1]}) to fit "
            f"{type(layer).__name__}{sizes}, got {got}"
        )
    weight, bias = _float64(layer.weight, 0.0), _float64(layer.bias, 0.0)
    mean, var = _float64(bn.running_mean, 0.0), _float64(bn.running_var, 0.0)
    scale = _float64(bn.weight, 1.0) / np.sqrt(var + bn.eps)
    # The outputs of a group are the second axis of its weights, or the third of transposed ones.
    rows, columns, kernel = weight.shape[0] // groups, weight.shape[1], math.prod(weight.shape[2:])
    by_group = weight.reshape(groups, rows, columns, kernel)
    axes = (groups, 1, -1, 1) if isinstance(layer, ConvTranspose2d) else (groups, -1, 1, 1)
    folded = copy.copy(layer)
    folded._parameters, folded._forward_hooks, folded._name = {}, [], ""
    new_weight = (scale.reshape(axes) * by_group).reshape(weight.shape)
    folded.weight = parameter(new_weight.astype(np.float32))
    new_bias = scale * (bias - mean) + _float64(bn.bias, 0.0)
    folded.bias = parameter(new_bias.astype(np.float32))
    folded.to(layer.weight.device)
    return folded


def _float64(x: Tensor | None, otherwise: float) -> Any:
    if x is None:
        return np.float64(otherwise)
    return np.asarray(x.detach().to("cpu"), dtype=np.float64)
