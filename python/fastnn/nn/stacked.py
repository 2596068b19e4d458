"""Population training: several models of one architecture trained as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import _core, random
from fastnn import functional as F
from fastnn.functional.stacked import models_linear
from fastnn.nn.activation import _Activation
from fastnn.nn.container import Sequential
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, as_tensor

__all__ = ["Stacked"]

# Between stages: one Tensor with an axis of models, or the Tensor of each.
Value = Tensor | list[Tensor]


def _leaves(model: Module) -> Iterator[Module]:
    if isinstance(model, Sequential):
        for layer in model:
            yield from _leaves(layer)
    else:
        yield model


def _together(value: Value) -> Tensor:
    """The Tensor of all models; rows that are the same for all stay as they are."""
    if not isinstance(value, list):
        return value
    first = value[0]
    shared = first.ndim == 2 and all(part is first for part in value)
    return first if shared else F.stack(value)


class _LinearStage:
    """A Linear of every model, whose weights are moved into one Tensor, as its items."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers
        self.weight, self.weights = self._join("weight")
        self.bias: Tensor | None = None
        self.biases: list[Tensor] = []
        if layers[0].bias is not None:
            self.bias, self.biases = self._join("bias")

    def _join(self, name: str) -> tuple[Tensor, list[Tensor]]:
        own = [getattr(layer, name) for layer in self.layers]
        whole: Any = _core.full([len(own), *own[0].shape], 0.0, own[0].dtype, "cpu")
        parts = []
        for i, (layer, value) in enumerate(zip(self.layers, own, strict=True)):
            part: Any = _core.item(whole, i)
            part.copy_(value.detach())
            part.requires_grad = value.requires_grad
            object.__setattr__(layer, name, part)
            parts.append(part)
        return whole, parts

    def __call__(self, value: Tensor, activation: Any) -> Tensor:
        for i, layer in enumerate(self.layers):
            replaced = layer.weight is not self.weights[i]
            if replaced or (self.biases and layer.bias is not self.biases[i]):
                raise ValueError(
                    f"Stacked: expected the parameters that it has stacked, got another of model "
                    f"{i}; write values with copy_ or load_state_dict"
                )
        return models_linear(
            value, self.weights, self.biases, self.weight, self.bias, activation=activation
        )


class Stacked(Module):
    """K models of one architecture, trained as one: a sweep or an ensemble in one process.

    y_i = model_i(x_i). The models differ in their seeds, and may differ in learning rates and
    probabilities of dropping. A linear layer, with the activation after it, is one launch for all
    of them; every other layer runs model by model in between. A model's parameters become parts of
    the stack's memory and stay its own: ``stack.unstack()[i]`` is an ordinary model, with torch's
    names, that has what the stack has learned. Make optimizers after stacking.

    Training a model in the stack gives the bits that training it alone gives. That is what the
    rule for noise is about: model i is made after ``fastnn.manual_seed(seeds[i])``, and draws its
    dropout from a generator of its own, in the state that this call leaves.

    The :class:`fastnn.Trainer` trains a stack as it trains a model, and
    ``nn.Ensemble(stack.unstack())`` averages the probabilities of its models. ::

        stack = nn.Stacked(make_model, 4, seeds=range(4))
        optimizer = fn.optim.SGD(stack.param_groups(lr=[0.1, 0.1, 0.01, 0.01]))
        trainer = fn.Trainer(stack, nn.CrossEntropyLoss(), optimizer)
        trainer.fit(x, y, epochs=20).history["accuracy_2"]

    In a loop of your own, take the losses from :meth:`losses`, whose sum gives each model the
    gradients of its own loss. ::

        @fn.capture
        def step(x, y):
            optimizer.zero_grad()
            losses = stack.losses(nn.CrossEntropyLoss(), stack(x), y)
            losses.sum().backward()
            optimizer.step()
            return losses.detach()

    An error in the data or a loss that is not finite stops all models, as it stops one.

    Args:
        models: A function that makes a model, or the models: a layer or Sequentials of layers.
        k: How many to make.
        seeds: A seed for each model; 0, 1, ... if not given.

    Attributes:
        generators: The states of the models' dropout generators, int64 of shape (k, 2).

    Raises:
        ValueError: If k and seeds do not fit, or the models differ in more than values.
        TypeError: If something is not a Module.

    Example:
        >>> import fastnn as fn
        >>> stack = fn.nn.Stacked(lambda: fn.nn.Linear(3, 2), 4)
        >>> stack(fn.ones(5, 3)).shape
        (4, 5, 2)
        >>> sorted(stack.unstack()[0].state_dict())
        ['bias', 'weight']

    Source:
        Hansen, Salamon 1990, "Neural network ensembles" (why to train several).
    """

    generators: Tensor

    def __init__(
        self,
        models: Callable[[], Module] | Sequence[Module],
        k: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if callable(models) and not isinstance(models, Sequence):
            members, seeds = _make(models, k, seeds)
        else:
            members = list(models)
            seeds = range(len(members)) if seeds is None else list(seeds)
        _check(members, seeds)
        for i, model in enumerate(members):
            setattr(self, str(i), model)
        states = [_core.make_generator(seed, 2, 0) for seed in seeds]
        self.register_buffer("generators", F.stack(states))
        self._generators = F.unbind(self.generators)
        self._layers = list(zip(*map(_leaves, members), strict=True))
        self._stages = [
            _LinearStage(layers) if isinstance(layers[0], Linear) else None
            for layers in self._layers
        ]

    def unstack(self) -> list[Module]:
        """The models. They go on sharing their memory with the stack.

        Example:
            >>> import fastnn as fn
            >>> len(fn.nn.Stacked(lambda: fn.nn.Linear(3, 2), 4).unstack())
            4
        """
        return [model for _, model in self.children()]

    def __deepcopy__(self, memo: dict[int, Any]) -> Stacked:
        # Copies of parts would be no parts of the copy's memory.
        other = Stacked(copy.deepcopy(self.unstack(), memo))
        other.generators.copy_(self.generators)
        other.training = self.training
        return other

    def forward(self, input: Any, shared: bool | None = None) -> Any:
        """The outputs of all models, (k, ...).

        Args:
            input: Array of shape (k, rows, ...), or (rows, ...) for all models.
            shared: Whether it is for all models; if not given, when it has two axes.
        """
        x = as_tensor(input)
        shared = x.ndim == 2 if shared is None else shared
        if not shared and (x.ndim == 0 or x.shape[0] != len(self._generators)):
            raise ValueError(
                f"Stacked: expected input of shape ({len(self._generators)}, ...), an item for "
                f"each model, got {x.shape}"
            )
        value: Value = [x] * len(self._generators) if shared else x
        at = 0
        while at < len(self._layers):
            value, at = self._stage(value, at)
        return value if isinstance(value, Tensor) else F.stack(value)

    def _stage(self, value: Value, at: int) -> tuple[Value, int]:
        """The value after the layer at a place, and the place to go on from."""
        layers, stage = self._layers[at], self._stages[at]
        following = self._layers[at + 1] if at + 1 < len(self._layers) else None
        if stage is not None and not _hooked(layers):
            fuses = following is not None and _is_one(following)
            activation = following[0].fused if fuses and following is not None else None
            return stage(_together(value), activation), at + 1 + fuses
        if not isinstance(value, list) and _is_one(layers):
            return layers[0](value), at + 1
        parts = F.unbind(value) if not isinstance(value, list) else value
        outputs = []
        for layer, part, state in zip(layers, parts, self._generators, strict=True):
            with random.dropout_from(state):
                outputs.append(layer(part))
        return outputs, at + 1

    def losses(self, criterion: Any, outputs: Any, target: Any, shared: bool = True) -> Tensor:
        """The loss of each model, (k,).

        Args:
            criterion: A loss such as ``nn.CrossEntropyLoss()``, with a scalar for result.
            outputs: What :meth:`forward` returned.
            target: The targets of all models, or of each: (k, ...) with ``shared=False``.
            shared: Whether all models have the same targets.

        Example:
            >>> import fastnn as fn
            >>> stack = fn.nn.Stacked(lambda: fn.nn.Linear(3, 2), 4)
            >>> stack.losses(fn.nn.CrossEntropyLoss(), stack(fn.ones(5, 3)), [0, 1, 0, 1, 1]).shape
            (4,)
        """
        parts = F.unbind(outputs)
        if shared:
            target = as_tensor(target)
        targets = [target] * len(parts) if shared else F.unbind(target)
        return F.stack([criterion(y, t) for y, t in zip(parts, targets, strict=True)])

    def predict(self, x: Any, batch_size: int = 1024) -> np.ndarray[Any, Any]:
        """Outputs of all models for the same x in evaluation mode, as a NumPy array.

        Args:
            x: Array of shape (n, ...).
            batch_size: Rows per forward pass.

        Returns:
            Array of shape (k, n, ...).

        Example:
            >>> import fastnn as fn
            >>> stack = fn.nn.Stacked(lambda: fn.nn.Linear(2, 3), 4)
            >>> stack.predict([[0.0, 1.0]]).shape
            (4, 1, 3)
        """
        return np.stack([model.predict(x, batch_size) for model in self.unstack()])

    def param_groups(self, **options: Sequence[float]) -> list[dict[str, Any]]:
        """A group of parameters for each model, for any optimizer.

        Args:
            options: What the models differ in, such as ``lr=[0.1, 0.01]``: a value for each.

        Raises:
            ValueError: If there are not as many values as models.

        Example:
            >>> import fastnn as fn
            >>> stack = fn.nn.Stacked(lambda: fn.nn.Linear(3, 2), 2)
            >>> optimizer = fn.optim.SGD(stack.param_groups(lr=[0.5, 0.25]))
            >>> [group["lr"] for group in optimizer.param_groups]
            [0.5, 0.25]
        """
        models = self.unstack()
        for name, values in options.items():
            if len(values) != len(models):
                raise ValueError(
                    f"Stacked: expected {len(models)} values of {name}, got {len(values)}"
                )
        return [
            {"params": list(model.parameters()), **{k: v[i] for k, v in options.items()}}
            for i, model in enumerate(models)
        ]

    def to(self, target: str) -> Module:
        """Refused: the models' parameters are parts of the stack's memory, float32 on the CPU.

        Raises:
            ValueError: Unless the target is ``"cpu"`` or ``"float32"``.
        """
        if target not in ("cpu", "float32"):
            raise ValueError(f"Stacked: expected float32 on cpu, got to({target!r})")
        return self


def _hooked(layers: Sequence[Module]) -> bool:
    return any(layer._forward_hooks for layer in layers)


def _is_one(layers: Sequence[Module]) -> bool:
    """Whether the layers are the same elementwise activation, without parameters."""
    first = layers[0]
    return (
        isinstance(first, _Activation)
        and not first._parameters
        and all(layer.fused == first.fused for layer in layers)  # type: ignore[attr-defined]
        and not _hooked(layers)
    )


def _make(
    make: Callable[[], Module], k: int | None, seeds: Sequence[int] | None
) -> tuple[list[Module], list[int]]:
    """A model for each seed; the common generators stay as they are."""
    if seeds is None:
        if k is None:
            raise ValueError("Stacked: expected k or seeds, to know how many models to make")
        seeds = range(k)
    if k is not None and len(seeds) != k:
        raise ValueError(f"Stacked: expected {k} seeds, got {len(seeds)}")
    before = random.get_state()
    models = []
    try:
        for seed in seeds:
            random.manual_seed(seed)
            models.append(make())
    finally:
        random.set_state(before)
    return models, list(seeds)


def _describe(model: Module) -> list[tuple[type, list[tuple[int, ...]]]]:
    return [(type(m), [getattr(m, n).shape for n in m._parameters]) for m in _leaves(model)]


def _check(models: list[Module], seeds: Sequence[int]) -> None:
    if not models:
        raise ValueError("Stacked: expected at least one model, got none")
    for model in models:
        if not isinstance(model, Module):
            raise TypeError(f"Stacked: expected Modules, got {type(model).__name__}")
    if len(seeds) != len(models):
        raise ValueError(f"Stacked: expected {len(models)} seeds, got {len(seeds)}")
    parameters = [id(p) for model in models for p in model.parameters()]
    if len(set(parameters)) != len(parameters):
        raise ValueError("Stacked: expected models with parameters of their own, got shared ones")
    first = _describe(models[0])
    for i, model in enumerate(models[1:], 1):
        if _describe(model) != first:
            raise ValueError(
                f"Stacked: expected models of one architecture, got\n{models[0]!r}\nand, as model "
                f"{i},\n{model!r}"
            )
