"""The pictures of fastnn.inspect. matplotlib is imported when one is drawn; no display is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.optim.lr_scheduler.tools import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.inspect.activations import ActivationStats, LayerStats
    from fastnn.inspect.summary import Summary

__all__ = ["new_axes", "plot_activations", "plot_gradient_flow"]

_FORWARD, _BACKWARD = "#4c72b0", "#dd8452"
_MOST = 12  # histograms in a row


def plot_activations(stats: ActivationStats) -> Figure:
    """A histogram of outputs for each layer and, below, of gradients; many layers are thinned."""
    from matplotlib.figure import Figure

    chosen = np.unique(np.linspace(0, len(stats.layers) - 1, _MOST).round().astype(int))
    layers = [stats.layers[i] for i in chosen]
    rows = 1 + any(layer.backward is not None for layer in layers)
    figure = Figure(figsize=(1.0 + 1.5 * len(layers), 0.6 + 1.9 * rows), dpi=110)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, len(layers), squeeze=False)
    for i, layer in enumerate(layers):
        _histogram(grid[0, i], layer.forward, _FORWARD)
        grid[0, i].set_title(_title(layer), fontsize=8)
        if rows == 2:
            _histogram(grid[1, i], layer.backward, _BACKWARD)
    grid[0, 0].set_ylabel("outputs")
    if rows == 2:
        grid[1, 0].set_ylabel("gradients")
    return figure


def plot_gradient_flow(norms: dict[str, float | None], axes: Axes | None = None) -> Axes:
    """Norms as points on a logarithmic scale, in the order of the parameters."""
    axes = axes or new_axes()
    values = [v if v else np.nan for v in norms.values()]
    axes.semilogy(range(len(values)), values, marker="o", color=_BACKWARD)
    axes.set_xticks(range(len(values)), list(norms), rotation=90, fontsize=7)
    axes.set_ylabel("norm of the gradient")
    return axes


def _title(layer: LayerStats) -> str:
    return layer.name if layer.name == layer.kind else f"{layer.name}\n{layer.kind}"


def _histogram(axes: Any, summary: Summary | None, color: str) -> None:
    axes.set_yticks([])
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if summary is None or not summary.counts.sum():
        axes.set_xticks([])
        return
    axes.stairs(summary.counts, summary.edges, fill=True, color=color)
    axes.set_xlabel(f"std {summary.std:.2g}", fontsize=7)
    axes.locator_params(axis="x", nbins=3)
