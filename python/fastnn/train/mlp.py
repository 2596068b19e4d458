"""The training step of a small network as one kernel, on CUDA; everything else by the tape.

A Sequential of 2 to 7 Linear layers and activations, of at most 64 features, 128 units and 32
outputs, under cross-entropy of labels or squared error: forward, loss and backward of 32 rows run
in the shared memory of one multiprocessor, and a second kernel adds the gradients up, in a fixed
order. What it does in float32 is what the tape does, sums in another order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import F, _core, cuda, nn
from fastnn.capture import unrecorded
from fastnn.functional.activation import resolve_activation
from fastnn.nn.activation import _Activation
from fastnn.tape import autocast_key, is_grad_enabled
from fastnn.tensor import Tensor, as_tensor, tensor

__all__ = ["forward_backward", "fused_step"]

_TOLERANCE = 1e-4  # of the first use's check: relative to the largest number of an array
_CHECKED_ROWS = 2 * 32 + 5  # two tiles, and a part of one


def forward_backward(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Any, y: Any, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One pass forward and back: the outputs, and the loss whose gradients parameters have now.

    l = loss(model(x), y); p.grad += share dl/dp for each parameter p. The tape makes it, or, for a
    small network on CUDA, one kernel, where that is set or was measured to be faster
    (:func:`fastnn.cuda.set_mlp_path`). A Trainer's step does the same by itself.

    Args:
        model: The network.
        loss: Of (outputs, y), a scalar; for the kernel a :class:`fastnn.nn.CrossEntropyLoss` of
            labels without weight and smoothing, or a :class:`fastnn.nn.MSELoss`.
        x: A batch, shape (batch, in) for the kernel.
        y: The truth: labels, or numbers of the shape of the outputs.
        share: The factor of the gradients.

    Returns:
        The outputs and the loss; backward cannot be called on them.

    Raises:
        ValueError: If a label is out of range or, by the kernel, if the loss is not finite.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 8), fn.nn.ReLU(), fn.nn.Linear(8, 2))
        >>> loss = fn.nn.CrossEntropyLoss()
        >>> y, l = fn.train.forward_backward(model, loss, np.eye(2, dtype=np.float32), [0, 1])
        >>> y.shape, l.shape, model[0].weight.grad.shape
        ((2, 2), (), (8, 2))

    Source:
        Mueller 2021, "tiny-cuda-nn" (fully fused networks).
    """
    inputs, target = as_tensor(x), as_tensor(y)
    fused = fused_step(model, loss, inputs, target, share)
    if fused is not None:
        return fused
    outputs = model(inputs)
    value = loss(outputs, target)
    (value if share == 1.0 else value * share).backward()
    return outputs.detach(), value.detach()


def fused_step(
    model: nn.Module, loss: Any, x: Tensor, y: Tensor, share: float = 1.0
) -> tuple[Tensor, Tensor] | None:
    """The same by the kernel alone; None, and nothing done, where it does not serve.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.mlp import fused_step
        >>> x, y = fn.zeros(4, 2), fn.zeros(4, 1)
        >>> fused_step(fn.nn.Linear(2, 1), fn.nn.MSELoss(), x, y) is None
        True
    """
    if x.device == "cpu" or not cuda.mlp.is_asked_for():
        return None
    network = _network(model)
    options = _loss_options(loss, y)
    if network is None or options is None or not network.takes(x, y):
        return None
    key = network.key(y.dtype, options)
    if not cuda.mlp.is_known(key):
        with unrecorded():
            cuda.mlp.note(key, network.name(y.dtype), _problem(network, y.dtype, options))
    if not cuda.mlp.serves(key):
        return None
    cuda.mlp.steps += 1
    outputs, value, gradients = network.step(x, y, options, share)
    for p, gradient in zip(network.parameters, gradients, strict=True):
        p.grad = gradient if p.grad is None else p.grad + gradient
    return outputs, value


@dataclasses.dataclass(frozen=True)
class _Network:
    """What the kernel takes: weights, biases, and (index, whether the output is saved, parameter)
    of each activation."""

    weights: list[Tensor]
    biases: list[Tensor | None]
    activations: list[tuple[int, bool, float]]

    @property
    def parameters(self) -> list[Tensor]:
        pairs = zip(self.weights, self.biases, strict=True)
        return [p for pair in pairs for p in pair if p is not None]

    @property
    def device(self) -> str:
        return self.weights[0].device

    @property
    def sizes(self) -> list[int]:
        return [self.weights[0].shape[1], *(w.shape[0] for w in self.weights)]

    def takes(self, x: Tensor, y: Tensor) -> bool:
        """Whether it is one of the kernel's, all of whose parameters want a gradient."""
        parameters = self.parameters
        return (
            is_grad_enabled()
            and autocast_key() is None
            and x.ndim == 2
            and x.shape[0] > 0
            and x.shape[1] == self.sizes[0]
            and x.dtype == "float32"
            and not x.requires_grad
            and y.device == x.device
            and y.shape == ((x.shape[0],) if y.dtype == "int64" else (x.shape[0], self.sizes[-1]))
            and len({id(p) for p in parameters}) == len(parameters)
            and all(p.dtype == "float32" and p.device == x.device for p in parameters)
            and all(p.requires_grad and p._node is None for p in parameters)
            and bool(_core.mlp_fits(self.sizes, self.activations))
        )

    def key(self, dtype: str, options: tuple[int, bool]) -> tuple[Any, ...]:
        """The class of networks that a check speaks for."""
        has_bias = tuple(b is not None for b in self.biases)
        kinds = tuple(kind for kind, _, _ in self.activations)
        return (self.device, tuple(self.sizes), kinds, has_bias, dtype, options[1])

    def name(self, dtype: str) -> str:
        """For messages."""
        names = list(_core.ACTIVATIONS)
        kinds = ", ".join(names[kind] for kind, _, _ in self.activations)
        loss = "cross_entropy" if dtype == "int64" else "mse_loss"
        return f"{'-'.join(map(str, self.sizes))} ({kinds}), {loss}"

    def step(
        self, x: Tensor, y: Tensor, options: tuple[int, bool], share: float
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        outputs, value, gradients = _core.mlp_step(
            x, y, self.weights, self.biases, self.activations, *options, share
        )
        return outputs, value, [g for g in gradients if g is not None]


def _network(model: nn.Module) -> _Network | None:
    """A Sequential of Linear layers, each with an activation or none, that nobody looks into."""
    found = _Network([], [], [])
    if type(model) is not nn.Sequential or model._forward_hooks:
        return None
    after_linear = False
    for layer in model:
        if layer._forward_hooks:
            return None
        if type(layer) is nn.Linear:
            found.weights.append(layer.weight)
            found.biases.append(layer.bias)
            found.activations.append(resolve_activation("linear", None))
            after_linear = True
        elif after_linear and isinstance(layer, _Activation) and layer.fused is not None:
            found.activations[-1] = resolve_activation("linear", layer.fused)
            after_linear = False
        else:
            return None
    return found if len(found.weights) > 1 else None


def _loss_options(loss: Any, y: Tensor) -> tuple[int, bool] | None:
    """(ignored label, whether it is a mean) of a loss that the kernel has."""
    if loss in (F.cross_entropy, F.mse_loss):
        loss = nn.CrossEntropyLoss() if loss is F.cross_entropy else nn.MSELoss()
    dtype = {nn.CrossEntropyLoss: "int64", nn.MSELoss: "float32"}.get(type(loss))
    if y.dtype != dtype or loss._forward_hooks or loss.reduction not in ("mean", "sum"):
        return None
    if dtype == "float32":
        return -100, loss.reduction == "mean"
    plain = loss.weight is None and loss.label_smoothing == 0
    return (loss.ignore_index, loss.reduction == "mean") if plain else None


def _problem(network: _Network, dtype: str, options: tuple[int, bool]) -> str:
    """Why the kernel may not be used for such networks, or an empty text.

    It makes a step of random numbers twice, and the tape makes it once.
    """
    rng = np.random.default_rng(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        numbers = (scale * rng.standard_normal(shape)).astype(np.float32)
        return tensor(numbers, device=network.device)

    classes = network.sizes[-1]
    x = draw(_CHECKED_ROWS, network.sizes[0])
    labels = rng.integers(0, classes, _CHECKED_ROWS)
    y = tensor(labels, device=network.device) if dtype == "int64" else draw(_CHECKED_ROWS, classes)
    own = _Network(
        [draw(*w.shape, scale=w.shape[1] ** -0.5) for w in network.weights],
        [None if b is None else draw(*b.shape) for b in network.biases],
        network.activations,
    )
    try:
        steps = [own.step(x, y, options, 0.5) for _ in range(2)]
        first, again = ([np.array(v.to("cpu")) for v in (s[0], s[1], *s[2])] for s in steps)
    except Exception as error:  # whatever it is, the tape can do without
        return f"{type(error).__name__}: {error}"
    if any(a.tobytes() != b.tobytes() for a, b in zip(first, again, strict=True)):
        return "other bits in a second run of its check"
    for got, want in zip(first, _by_tape(own, x, y, options, 0.5), strict=True):
        if not np.abs(got - want).max() <= _TOLERANCE * max(1.0, np.abs(want).max()):
            return "a wrong result in its check"
    return ""


def _by_tape(
    network: _Network, x: Tensor, y: Tensor, options: tuple[int, bool], share: float
) -> list[Any]:
    """What the kernel's step of a network must be: outputs, loss and gradients."""
    for p in network.parameters:
        p.requires_grad = True
    names = list(_core.ACTIVATIONS)
    outputs: Any = x
    layers = zip(network.weights, network.biases, network.activations, strict=True)
    for w, b, (kind, _, a) in layers:
        outputs = F.linear(outputs, w, b, activation=(names[kind], a))
    ignored, mean = options
    reduction = "mean" if mean else "sum"
    if y.dtype == "int64":
        value = F.cross_entropy(outputs, y, ignore_index=ignored, reduction=reduction)
    else:
        value = F.mse_loss(outputs, y, reduction=reduction)
    (value * share).backward()
    results = [outputs.detach(), value.detach(), *(p.grad for p in network.parameters)]
    return [np.array(v.to("cpu")) for v in results]
