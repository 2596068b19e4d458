"""What every layer puts out for a batch, and the gradients that come back to it.

Forward hooks see the outputs; each is passed on through an op that changes nothing and whose vjp
sees the gradient. A hooked layer is not fused with its neighbour, so Linear and ReLU are two rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _core, nn, random
from fastnn._checks import checked
from fastnn.inspect.plots import plot_activations
from fastnn.inspect.summary import Summary, format_table, number, summarize
from fastnn.nn.activation import _Activation
from fastnn.tensor import Tensor, apply, as_tensor, enable_grad

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["ActivationStats", "LayerStats", "activation_stats", "dead_relu_fraction"]

_ELEMENTWISE = (_Activation, nn.Hardtanh, nn.PReLU)
_SATURATED = 1 - 0.99**2  # tanh's derivative where its value is 0.99


@dataclasses.dataclass(frozen=True)
class LayerStats:
    """One layer's outputs on a batch.

    Attributes:
        name: Its path; ``"input"`` for the batch, ``"path (2)"`` for the second call of a layer.
        kind: Its class.
        forward: Its outputs. Of a recurrent layer, those of all steps.
        backward: The gradient with respect to them, or None.
        slope: An activation's derivative at its inputs, else None: how much gradient passes.
        saturated: Share of the slopes below 1 - 0.99^2 in absolute value: where a tanh is beyond
            0.99, where a ReLU is off. None for other layers.
        dead: Share of the units (axis 1: features or channels) whose slope is 0 in the whole batch,
            so that they do not learn from it. None for other layers.
    """

    name: str
    kind: str
    forward: Summary
    backward: Summary | None = None
    slope: Summary | None = None
    saturated: float | None = None
    dead: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same in plain Python."""
        return {k: v.to_dict() if isinstance(v, Summary) else v for k, v in vars(self).items()}


@dataclasses.dataclass(frozen=True)
class ActivationStats:
    """What :func:`activation_stats` returns; ``print`` shows it as a table.

    Attributes:
        layers: The input and every layer, in the order of their calls.
        gradients: The gradient of each parameter, by path; empty without a backward pass.
    """

    layers: tuple[LayerStats, ...]
    gradients: dict[str, Summary]

    def __getitem__(self, name: str) -> LayerStats:
        """The layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name!r}; there are {[layer.name for layer in self.layers]}")

    def __str__(self) -> str:
        header = ["layer", "type", "mean", "std", "min", "max", "zeros", "saturated", "dead"]
        rows = []
        for s in self.layers:
            f = s.forward
            shares = [f.zeros, s.saturated, s.dead]
            cells = [number(v) for v in (f.mean, f.std, f.min, f.max)]
            cells += ["-" if v is None else f"{100 * v:.1f}%" for v in shares]
            if self.gradients:
                cells.append(number(s.backward.std if s.backward else None))
            rows.append([s.name, s.kind, *cells])
        return format_table([*header, "gradient std"] if self.gradients else header, rows, left=2)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain Python, ready for JSON (which has no NaN: see nonfinite)."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "gradients": {name: s.to_dict() for name, s in self.gradients.items()},
        }

    def plot(self) -> Figure:
        """Histograms of every layer, forward and backward; needs matplotlib, but no display.

        Returns:
            The figure; ``.savefig(path)`` writes it.
        """
        return plot_activations(self)


@checked
def activation_stats(
    model: nn.Module,
    x: ArrayLike | Tensor,
    *,
    loss: Callable[[Any, Any], Tensor] | None = None,
    y: Any = None,
    gradient: ArrayLike | Tensor | None = None,
    bins: int = 50,
) -> ActivationStats:
    """Statistics of every layer's outputs for a batch, and of the gradients that come back.

    The model runs in the mode it is in. Afterwards its buffers, the gradients of its parameters
    and the random generators are as before.

    Args:
        model: Any model. Activations that its forward calls as functions are not seen as layers.
        x: A batch of inputs, some hundred samples of the data.
        loss: Function of (outputs, y): then there is a backward pass from it.
        y: What the loss takes beside the outputs.
        gradient: In place of a loss, the gradient with respect to the outputs, of their shape.
        bins: Of the histograms.

    Returns:
        A row for the input and for each layer; print it, or ``.plot()`` it.

    Raises:
        ValueError: If there are both a loss and a gradient, or bins is less than 1.

    Example:
        >>> import numpy as np, fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 3), fn.nn.ReLU(), fn.nn.Linear(3, 2))
        >>> for p in model.parameters():
        ...     _ = fn.nn.init.constant_(p.detach(), 1.0)
        >>> print(fn.inspect.activation_stats(model, [[1.0, 2.0], [0.0, -3.0]]))
        layer  type    mean    std  min  max  zeros  saturated   dead
        input  input      0  1.871   -3    2  25.0%          -      -
        0      Linear     1      3   -2    4   0.0%          -      -
        1      ReLU       2      2    0    4  50.0%      50.0%   0.0%
        2      Linear     7      6    1   13   0.0%          -      -

    Source:
        Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    if loss is not None and gradient is not None:
        raise ValueError("activation_stats: expected a loss or a gradient, got both")
    if bins < 1:
        raise ValueError(f"activation_stats: expected bins >= 1, got {bins}")
    batch = as_tensor(x).detach()
    if batch.dtype not in ("int64", "uint8"):
        batch.requires_grad = True
    watch = _Watch(bins)
    with _unchanged(model), enable_grad():
        with watch.of(model):
            outputs = model(batch)
        if loss is not None:
            loss(outputs, y).backward()
        elif gradient is not None:
            _first(outputs).backward(gradient)
        parameters = [(name, p.grad) for name, p in model.named_parameters()]
        gradients = {name: summarize(g, bins) for name, g in parameters if g is not None}
    came_back = summarize(batch.grad, bins) if batch.grad is not None else None
    first = LayerStats("input", "input", summarize(batch, bins), came_back)
    return ActivationStats((first, *watch.rows()), gradients)


@checked
def dead_relu_fraction(model: nn.Module, x: ArrayLike | Tensor) -> dict[str, float]:
    """For each activation layer, the share of units that are off for every sample.

    A ReLU that never activates gets no gradient and never will again. Pass the whole data set, or
    enough of it. A small positive bias at the start is one remedy, a smaller learning rate another.

    Args:
        model: Any model with activation layers.
        x: Inputs, shape (n, ...).

    Returns:
        Shares by the layers' paths.

    Example:
        >>> import fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(1, 2), fn.nn.ReLU())
        >>> model.load_state_dict({"0.weight": [[1.0], [1.0]], "0.bias": [0.0, -9.0]})
        >>> fn.inspect.dead_relu_fraction(model, [[1.0], [2.0]])
        {'1': 0.5}
    """
    rows = activation_stats(model, x).layers
    return {row.name: row.dead for row in rows if row.dead is not None}


class _Watch:
    """The hooks of one forward pass, and what they saw."""

    def __init__(self, bins: int) -> None:
        self._bins = bins
        self._rows: list[dict[str, Any]] = []
        self._calls: dict[str, int] = {}

    @contextlib.contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Inside, the leaves of the model are watched."""
        leaves = [(path, m) for path, m in model.named_modules() if not m._modules]
        removers = [m.register_forward_hook(self._hook(path)) for path, m in leaves]
        try:
            yield
        finally:
            for remove in removers:
                remove()

    def rows(self) -> list[LayerStats]:
        """Of every call."""
        return [LayerStats(**row) for row in self._rows]

    def _hook(self, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            kind = type(module).__name__
            name = path or kind
            self._calls[name] = calls = self._calls.get(name, 0) + 1
            y = _first(output)
            row = {
                "name": name if calls == 1 else f"{name} ({calls})",
                "kind": kind,
                "forward": summarize(y, self._bins),
            }
            if isinstance(module, _ELEMENTWISE):
                row |= self._slope(module, inputs[0])
            self._rows.append(row)
            if not y.requires_grad:
                return None
            watched = apply(self._probe(row), y)
            return (watched, *output[1:]) if isinstance(output, tuple) else watched

        return hook

    def _probe(self, row: dict[str, Any]) -> Callable[[Any], Any]:
        def probe(y: Any) -> Any:
            def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any]:
                row["backward"] = summarize(dy, self._bins)
                return (dy,)

            return _core.share(y), vjp

        return probe

    def _slope(self, module: Any, z: Any) -> dict[str, Any]:
        """The derivative at z, by the activation's own vjp."""
        z = as_tensor(z).detach().clone()
        z.requires_grad = True
        module.forward(z).sum().backward()
        for p in module.parameters():
            p.grad = None
        slope = np.abs(np.asarray(z.grad.to("cpu"), np.float64))
        units = slope.swapaxes(0, 1).reshape(slope.shape[1], -1) if slope.ndim > 1 else slope
        off = (units == 0).reshape(len(units), -1).all(axis=1)
        return {
            "slope": summarize(z.grad, self._bins),
            "saturated": float((slope < _SATURATED).mean()),
            "dead": float(off.mean()),
        }


def _first(output: Any) -> Any:
    """The Tensor of an output; of several, such as a recurrent layer's, the first."""
    return output[0] if isinstance(output, tuple) else output


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Afterwards buffers, gradients and generators are as before; inside, no gradient is there."""
    buffers = [(b, b.clone()) for _, b in model.named_buffers()]
    gradients = [(p, p.grad) for p in model.parameters()]
    generators = random.get_state()
    for p, _ in gradients:
        p.grad = None
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        for p, grad in gradients:
            p.grad = grad
        random.set_state(generators)
