"""Weights and their gradients: singular values, and how large gradients are from layer to layer."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import nn
from fastnn._checks import checked
from fastnn.inspect.plots import new_axes, plot_gradient_flow
from fastnn.inspect.summary import format_table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GradientFlow", "SingularValues", "gradient_flow", "singular_values"]

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class SingularValues:
    """The spectra of a model's weights, largest first; ``print`` shows a table.

    Attributes:
        values: Singular values by the weights' paths.
    """

    values: dict[str, Array]

    def stable_rank(self, name: str) -> float:
        """sum s^2 / max s^2: how many directions matter, at most the rank."""
        s = self.values[name]
        return float((s**2).sum() / s[0] ** 2) if s[0] else 0.0

    def condition(self, name: str) -> float:
        """max s / min s."""
        s = self.values[name]
        return float(s[0] / s[-1]) if s[-1] else math.inf

    def __str__(self) -> str:
        rows = []
        for name, s in self.values.items():
            cells = (s[0], s[len(s) // 2], s[-1], self.stable_rank(name), self.condition(name))
            rows.append([name, *(number(float(v)) for v in cells)])
        header = ["weight", "largest", "median", "smallest", "stable rank", "condition"]
        return format_table(header, rows)

    def to_dict(self) -> dict[str, list[float]]:
        """The values in plain Python."""
        return {name: s.tolist() for name, s in self.values.items()}

    def plot(self, axes: Axes | None = None) -> Axes:
        """The values by rank; needs matplotlib, but no display.

        Args:
            axes: Where to draw; default: a figure of its own.

        Returns:
            The axes; ``axes.figure.savefig(path)`` writes the picture.
        """
        axes = axes or new_axes()
        for name, s in self.values.items():
            axes.semilogy(range(1, len(s) + 1), np.maximum(s, 1e-300), label=name)
        axes.set_xlabel("rank")
        axes.set_ylabel("singular value")
        axes.legend(frameon=False)
        return axes


@checked
def singular_values(model: nn.Module) -> SingularValues:
    """Singular values of every weight of two axes or more; a kernel's axes after the first as one.

    A spectrum that falls to nothing means that signals and gradients live in few directions.

    Args:
        model: Any model.

    Raises:
        ValueError: If a weight is not finite; the message names it.

    Example:
        >>> import fastnn as fn
        >>> layer = fn.nn.Linear(2, 2)
        >>> layer.load_state_dict({"weight": [[3.0, 0.0], [0.0, 4.0]], "bias": [0.0, 0.0]})
        >>> print(fn.inspect.singular_values(layer))
        weight  largest  median  smallest  stable rank  condition
        weight        4       3         3        1.562      1.333

    Source:
        Saxe, McClelland, Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks".
    """
    values = {}
    for name, p in model.named_parameters():
        if p.ndim < 2 or not math.prod(p.shape):
            continue
        matrix = np.asarray(p.detach().to("cpu"), np.float64).reshape(p.shape[0], -1)
        if not np.isfinite(matrix).all():
            raise ValueError(f"singular_values: expected finite weights, got others in {name!r}")
        values[name] = np.linalg.svd(matrix, compute_uv=False)
    return SingularValues(values)


@dataclasses.dataclass(frozen=True)
class GradientFlow:
    """Norms of the parameters and of their gradients; ``print`` shows a table.

    Attributes:
        weights: Euclidean norm of each parameter, by path.
        gradients: That of its gradient; None where there is none.
    """

    weights: dict[str, float]
    gradients: dict[str, float | None]

    def __str__(self) -> str:
        rows = [
            [name, number(w), number(g), number(g / w if w and g is not None else None)]
            for (name, w), g in zip(self.weights.items(), self.gradients.values(), strict=True)
        ]
        return format_table(["parameter", "norm", "gradient", "ratio"], rows)

    def to_dict(self) -> dict[str, Any]:
        """The norms in plain Python."""
        return {"weights": dict(self.weights), "gradients": dict(self.gradients)}

    def plot(self, axes: Axes | None = None) -> Axes:
        """The gradients' norms, from the first parameter to the last; needs matplotlib.

        Args:
            axes: Where to draw; default: a figure of its own.

        Returns:
            The axes.
        """
        return plot_gradient_flow(self.gradients, axes)


@checked
def gradient_flow(model: nn.Module) -> GradientFlow:
    """How large the gradients are that the last ``backward()`` left, parameter by parameter.

    Norms that shrink towards the first layers vanish, norms that grow explode; 0 or none in one
    layer alone says that no gradient reaches it.

    Args:
        model: A model after ``loss.backward()``.

    Example:
        >>> import fastnn as fn
        >>> layer = fn.nn.Linear(2, 1)
        >>> layer.load_state_dict({"weight": [[3.0, 4.0]], "bias": [2.0]})
        >>> layer([[1.0, 0.0]]).sum().backward()
        >>> print(fn.inspect.gradient_flow(layer))
        parameter  norm  gradient  ratio
        weight        5         1    0.2
        bias          2         1    0.5
    """
    named = list(model.named_parameters())
    return GradientFlow(
        {name: _norm(p.detach()) for name, p in named},
        {name: None if p.grad is None else _norm(p.grad) for name, p in named},
    )


def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x.to("cpu"), np.float64).ravel()))
