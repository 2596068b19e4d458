"""Gradient clipping, constraints on weights, and batch norm folded into the layer before it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import _core, random
from fastnn.nn.linear import Linear
from fastnn.nn.norm import BatchNorm1d
from fastnn.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "fold_bn", "max_norm_", "soft_threshold_"]


def _tensors(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


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
    grads = [p.grad for p in _tensors(parameters) if p.grad is not None]
    norm: Any = _core.clip_grad_norm(grads, max_norm, norm_type)
    return norm  # type: ignore[no-any-return]


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
    grads = [p.grad for p in _tensors(parameters) if p.grad is not None]
    _core.clip_grad_value(grads, clip_value)


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


def fold_bn(linear: Linear, bn: BatchNorm1d) -> Linear:
    """One Linear that does what ``linear`` and then ``bn`` do in evaluation mode.

    With s = weight / sqrt(running_var + eps):  W' = s W,  b' = s (b - running_mean) + bias. The
    new weights are computed in float64 and share no memory with the old ones.

    Args:
        linear: The layer before.
        bn: Batch norm over its outputs, with running statistics.

    Returns:
        A Linear with a bias, of the same device, in the same mode.

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
    if linear.out_features != bn.num_features:
        raise ValueError(
            f"fold_bn: expected BatchNorm1d({linear.out_features}) to fit "
            f"Linear({linear.in_features}, {linear.out_features}), got {bn.num_features} features"
        )
    weight, bias = _float64(linear.weight, 0.0), _float64(linear.bias, 0.0)
    mean, var = _float64(bn.running_mean, 0.0), _float64(bn.running_var, 0.0)
    scale = _float64(bn.weight, 1.0) / np.sqrt(var + bn.eps)
    generators = random.get_state()
    folded = Linear(linear.in_features, linear.out_features)
    random.set_state(generators)  # the fresh weights are not used, so neither is their draw
    folded.load_state_dict(
        {
            "weight": (scale[:, None] * weight).astype(np.float32),
            "bias": (scale * (bias - mean) + _float64(bn.bias, 0.0)).astype(np.float32),
        }
    )
    folded.train(linear.training)
    folded.to(linear.weight.device)
    return folded


def _float64(x: Tensor | None, otherwise: float) -> Any:
    if x is None:
        return np.float64(otherwise)
    return np.asarray(x.detach().to("cpu"), dtype=np.float64)
