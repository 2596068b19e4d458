"""What several experiments share: deep stacks of layers, digits, training loops, axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn as fn
from fastnn import data, nn
from fastnn.nn import init

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "accuracy",
    "axes_of",
    "descend",
    "digits",
    "forward_table",
    "stack",
    "steps",
    "two_moons",
]

COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")

Array = np.ndarray[Any, Any]
Draw = Callable[[fn.Tensor], Any]


def axes_of(figure: Figure, columns: int, titles: Sequence[str] = (), rows: int = 1) -> list[Any]:
    """Axes side by side, without the box's upper and right lines."""
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for a, title in zip(axes, titles, strict=False):
        a.set_title(title, fontsize=10)
    for a in axes:
        a.spines[["top", "right"]].set_visible(False)
        a.grid(True, color="#e8e8e8", linewidth=0.6)
        a.set_axisbelow(True)
    return axes


def forward_table(draw: Draw, activation: str, depth: int, width: int, batch: int) -> Array:
    """Mean and standard deviation after each of several layers, for N(0, 1) inputs."""
    x = init.normal_(fn.zeros(batch, width))
    table = []
    for _ in range(depth):
        x = fn.F.linear(x, draw(fn.zeros(width, width)), activation=activation)
        values = np.asarray(x, np.float64)
        table.append((values.mean(), values.std()))
    return np.array(table)


def stack(draw: Draw, activation: type[nn.Module], depth: int, width: int) -> nn.Sequential:
    """Linear layers without biases, each followed by an activation."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        draw(linear.weight)
        layers += [linear, activation()]
    return nn.Sequential(*layers)


def digits(train: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """(x_train, y_train, x_test, y_test) of the 8 x 8 digits, all features divided by 8, less 1."""
    dataset = data.load_digits()
    order = np.random.default_rng(seed).permutation(len(dataset.x))
    x, y = (dataset.x[order] / 8 - 1).astype(np.float32), np.asarray(dataset.y)[order]
    return x[:train], y[:train], x[train:], y[train:]


def two_moons(n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two half circles that reach into one another, classes 0 and 1."""
    angle, y = rng.uniform(0, np.pi, n), np.arange(n) % 2
    sign = 1 - 2 * y
    x = np.stack([sign * np.cos(angle) + y, sign * np.sin(angle) + 0.5 * y], axis=1)
    return (x + rng.normal(0, noise, x.shape)).astype(np.float32), y


def descend(
    name: str,
    gradient: Callable[[Array], Any],
    start: Sequence[float],
    steps: int,
    lr: float | Callable[[int], float],
    **options: Any,
) -> Array:
    """The iterates of an optimizer, from the start: shape (steps + 1, n), float64.

    Args:
        name: A class of ``fastnn.optim``.
        gradient: At a float64 point.
        start: The first point.
        steps: How many.
        lr: The rate, or the rate of step 1, 2, ...
        **options: Of the optimizer.
    """
    w = fn.tensor(list(start), requires_grad=True)
    optimizer = getattr(fn.optim, name)([w], lr=lr(1) if callable(lr) else lr, **options)
    path = [np.array(w.detach(), np.float64)]
    for step in range(1, steps + 1):
        if callable(lr):
            optimizer.param_groups[0]["lr"] = lr(step)
        w.grad = fn.tensor(np.asarray(gradient(path[-1]), np.float32))
        optimizer.step()
        path.append(np.array(w.detach(), np.float64))
    return np.array(path)


def steps(
    model: nn.Module, optimizer: fn.optim.Optimizer, loss: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], float]:
    """A training step, recorded once and replayed: from a batch to its loss."""
    optimizer.prepare()

    def step(x: Any, y: Any) -> Any:
        value = loss(model(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    recorded = fn.capture(step)
    return lambda x, y: float(recorded(x, y).item())


def accuracy(model: nn.Module, x: Array, y: Array) -> float:
    """Share of the samples that the model puts into their class."""
    return float((model.predict(x).argmax(1) == y).mean())
