"""What a training minimises: a loss of the data, and penalties on weights and activations.

L = data loss + sum of penalties. Each term is a Tensor of its own, so that each is reported.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import math
from collections.abc import Callable, Iterator
from typing import Any

from fastnn import F, _core, nn
from fastnn.tensor import Tensor
from fastnn.train.members import members_of

__all__ = ["ActivationPenalty", "Objective", "Penalty", "WeightPenalty", "per_sample"]

Loss = Callable[[Any, Any], Any]
Penalty = Callable[[nn.Module], Any]
_RESERVED = ("loss", "data_loss", "accuracy", "lr", "seconds", "samples_per_s", "epoch", "step")


class WeightPenalty:
    """A penalty on the weights of a model: f(weights, lam).

    Args:
        function: Such as :func:`fastnn.functional.l2_penalty`; called with a list of parameters.
        lam: Its factor, >= 0.
        weights: Which parameters, as a pattern of their paths such as ``"0.*"``; default: all of
            two axes or more, that is, no biases and no gains of norms.
        options: Other arguments of the function.

    Raises:
        ValueError: When it is called, if lam is out of range or no parameter fits.

    Example:
        >>> import fastnn as fn
        >>> penalty = fn.train.WeightPenalty(fn.F.l2_penalty, 0.5)
        >>> layer = fn.nn.Linear(2, 1)
        >>> fn.nn.init.constant_(layer.weight, 3.0) is layer.weight
        True
        >>> penalty(layer).item()
        9.0

    Source:
        Krogh, Hertz 1992, "A simple weight decay can improve generalization".
    """

    def __init__(
        self, function: Callable[..., Any], lam: float, weights: str | None = None, **options: Any
    ) -> None:
        self.function, self.lam, self.weights, self.options = function, lam, weights, options

    def __call__(self, model: nn.Module) -> Any:
        """The penalty of a model: a scalar Tensor."""
        named = model.named_parameters()
        if self.weights is None:
            chosen = [p for _, p in named if len(p.shape) > 1]
        else:
            chosen = [p for name, p in named if fnmatch.fnmatchcase(name, self.weights)]
        if not chosen:
            names = ", ".join(name for name, _ in model.named_parameters())
            raise ValueError(
                f"WeightPenalty: expected weights to fit one of {names}, got {self.weights!r}"
            )
        return self.function(chosen, self.lam, **self.options)


class ActivationPenalty:
    """A penalty on what a layer puts out: f(outputs, lam) / batch size.

    An L1 penalty makes activations sparse. The layer is looked at through a hook, so that it is not
    fused with its neighbour.

    Args:
        layer: Path of the layer in the model, such as ``"1"``.
        function: Such as :func:`fastnn.functional.l1_penalty`.
        lam: Its factor, >= 0.
        options: Other arguments of the function.

    Raises:
        ValueError: If the model has no such layer.

    Example:
        >>> import fastnn as fn
        >>> penalty = fn.train.ActivationPenalty("0", fn.F.l1_penalty, 0.5)
        >>> model = fn.nn.Sequential(fn.nn.ReLU())
        >>> with penalty.watching(model):
        ...     y = model([[1.0, -2.0], [3.0, 4.0]])
        ...     penalty(model).item()
        2.0

    Source:
        Glorot, Bordes, Bengio 2011, "Deep sparse rectifier neural networks".
    """

    def __init__(
        self, layer: str, function: Callable[..., Any], lam: float, **options: Any
    ) -> None:
        self.layer, self.function, self.lam, self.options = layer, function, lam, options
        self._outputs: dict[nn.Module, Any] = {}

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Inside, the outputs of the layer of that model are seen."""
        layers = dict(model.named_modules())
        if self.layer not in layers:
            raise ValueError(
                f"ActivationPenalty: expected layer to be one of "
                f"{', '.join(repr(name) for name in layers if name)}, got {self.layer!r}"
            )

        def see(module: nn.Module, inputs: Any, outputs: Any) -> None:
            self._outputs[model] = outputs

        remove = layers[self.layer].register_forward_hook(see)
        try:
            yield
        finally:
            remove()
            self._outputs.pop(model, None)

    def __call__(self, model: nn.Module) -> Any:
        """The penalty on the last outputs: a scalar Tensor."""
        if model not in self._outputs:
            raise ValueError(
                f"ActivationPenalty: expected outputs of layer {self.layer!r}, got none; call the "
                "model inside watching()"
            )
        outputs = self._outputs[model]
        return self.function(outputs, self.lam, **self.options) * (1.0 / outputs.shape[0])


class Objective:
    """A loss of the data plus any number of penalties, each reported by itself.

    L = loss(outputs, y) + sum of penalties. Give it to :class:`fastnn.Trainer` as ``loss``: logs
    and history then hold ``loss``, ``data_loss`` and each penalty under its name, of training and
    of validation.

    Args:
        loss: Function of (outputs, y) that returns a scalar Tensor.
        penalties: By name: functions of the model that return a scalar Tensor, such as
            :class:`WeightPenalty` and :class:`ActivationPenalty`.

    Raises:
        ValueError: If a name is taken.
        TypeError: If a penalty is not callable.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 8), fn.nn.ReLU(), fn.nn.Linear(8, 2))
        >>> objective = fn.train.Objective(
        ...     fn.nn.CrossEntropyLoss(),
        ...     l2=fn.train.WeightPenalty(fn.F.l2_penalty, 1e-3),
        ...     sparsity=fn.train.ActivationPenalty("1", fn.F.l1_penalty, 1e-3),
        ... )
        >>> trainer = fn.Trainer(model, objective, fn.optim.SGD(model.parameters(), lr=0.1))
        >>> history = trainer.fit(np.eye(2), [0, 1], verbose=0).history
        >>> sorted(history)[:5]
        ['accuracy', 'data_loss', 'l2', 'loss', 'lr']
    """

    def __init__(self, loss: Loss, **penalties: Penalty) -> None:
        for name, penalty in penalties.items():
            if name in _RESERVED or name.startswith("val_"):
                raise ValueError(
                    f"Objective: expected names of penalties other than {', '.join(_RESERVED)} and "
                    f"val_..., got {name!r}"
                )
            if not callable(penalty):
                raise TypeError(
                    f"Objective: expected {name} to be a function of the model, got "
                    f"{type(penalty).__name__}"
                )
        self.loss, self.penalties = loss, penalties

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what is reported besides the sum."""
        return ("data_loss", *self.penalties) if self.penalties else ()

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Inside, penalties on activations see what the model's layers put out."""
        with contextlib.ExitStack() as stack:
            for penalty in self.penalties.values():
                if hasattr(penalty, "watching"):
                    for member in members_of(model):
                        stack.enter_context(penalty.watching(member))
            yield

    def __call__(
        self,
        model: nn.Module,
        outputs: Any,
        y: Any,
        weight: Tensor | None = None,
        check_finite: bool = True,
    ) -> tuple[Any, dict[str, Any]]:
        """The sum, and the terms by name.

        Args:
            model: What the penalties are of.
            outputs: Its outputs.
            y: The truth.
            weight: A weight for the loss of each sample; the mean is over samples, as in Keras.
            check_finite: Whether the kernels see to it that the sum is finite.

        Raises:
            ValueError: If it is not, here or, while recording, when the step is replayed.
        """
        checks = check_finite and _is_cross_entropy(self.loss) and weight is None
        if weight is not None:
            data = _weighted(self.loss, outputs, y, weight)
        elif checks:
            data = self.loss(outputs, y, check_finite=True)  # type: ignore[call-arg]
        else:
            data = self.loss(outputs, y)
        total, terms = data, {}
        for name, penalty in self.penalties.items():
            terms[name] = penalty(model)
            total = total + terms[name]
        if self.penalties:
            terms = {"data_loss": data, **terms}
        if check_finite and (self.penalties or not checks):
            _core.sum(total, 1.0, True)
        return total, terms


def _is_cross_entropy(loss: Any) -> bool:
    return isinstance(loss, nn.CrossEntropyLoss) or loss is F.cross_entropy


def _weighted(loss: Loss, outputs: Any, y: Any, weight: Tensor) -> Any:
    """sum_i weight_i loss_i, over the number of losses where the loss is a mean."""
    losses = per_sample("fit", loss)(outputs, y)
    rows, count = losses.shape[0], math.prod(losses.shape)
    total = (weight.reshape(1, rows) @ losses.reshape(rows, count // rows)).sum()
    return total if getattr(loss, "reduction", "mean") == "sum" else total * (1.0 / count)


def per_sample(op: str, loss: Any) -> Loss:
    """The same loss without its reduction.

    Raises:
        ValueError: If it is none of fastnn, or has weights of its own.

    Example:
        >>> import fastnn as fn
        >>> fn.train.objective.per_sample("fit", fn.nn.MSELoss())([1.0, 3.0], [0.0, 0.0]).numpy()
        array([1., 9.], dtype=float32)
    """
    function: Any = getattr(F, getattr(loss, "__name__", ""), None)
    if function is not None and function is loss:
        return lambda outputs, y: function(outputs, y, reduction="none")
    reduction = getattr(loss, "reduction", None)
    if reduction not in ("mean", "sum"):
        name = getattr(loss, "__name__", type(loss).__name__)
        got = name if reduction is None else f"{name} of reduction {reduction!r}"
        raise ValueError(
            f"{op}: expected a loss of fastnn with reduction 'mean' or 'sum' for sample weights, "
            f"got {got}"
        )
    if getattr(loss, "weight", None) is not None:
        raise ValueError(
            f"{op}: expected a loss without weight for class_weight or sample_weight, got "
            f"{type(loss).__name__} with one"
        )
    alone = copy.copy(loss)
    object.__setattr__(alone, "reduction", "none")
    result: Loss = alone
    return result
