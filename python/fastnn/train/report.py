"""The plot of a run: loss and accuracy by epoch. Needs matplotlib, but no display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fastnn.train.files import write_atomically

__all__ = ["plot_metrics"]

_COLORS = {"train": "#4c72b0", "val": "#dd8452"}
_NAMES = {"train": "training", "val": "validation"}


def plot_metrics(
    rows: Sequence[dict[str, Any]], path: str, title: str = "", best_epoch: int = -1
) -> None:
    """Draw loss and accuracy of the lines of a metrics.jsonl into a PNG.

    Args:
        rows: Dictionaries with epoch, split, loss and perhaps accuracy.
        path: The file.
        title: Above the plot.
        best_epoch: The epoch to mark, counted from 0; -1 for none.
    """
    quantities = [name for name in ("loss", "accuracy") if any(name in row for row in rows)]
    figure = Figure(figsize=(5 * max(1, len(quantities)), 3.6), dpi=110)
    figure.subplots_adjust(
        left=0.15 / max(1, len(quantities)),
        right=0.985,
        bottom=0.14,
        top=0.89 if title else 0.96,
        wspace=0.2,
    )
    canvas = FigureCanvasAgg(figure)
    for i, name in enumerate(quantities):
        axes = figure.add_subplot(1, len(quantities), i + 1)
        _draw(axes, rows, name, best_epoch)
    if title:
        figure.suptitle(title, fontsize=11)
    buffer = io.BytesIO()
    canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    write_atomically(path, buffer.getvalue())


def _draw(axes: Any, rows: Sequence[dict[str, Any]], name: str, best_epoch: int) -> None:
    scale = 100.0 if name == "accuracy" else 1.0
    marker = "o" if sum(row["split"] == "train" for row in rows) < 3 else ""
    for split in ("train", "val"):
        points = [
            (r["epoch"] + 1, scale * r[name]) for r in rows if r["split"] == split and name in r
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=_COLORS[split], label=_NAMES[split], linewidth=1.8, marker=marker)
    if name == "loss":
        _logarithmic(axes)
    if best_epoch >= 0:
        axes.axvline(
            best_epoch + 1, color="#888888", linewidth=1, linestyle=":", label="best epoch"
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss" if name == "loss" else "accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="major", color="#e0e0e0", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _logarithmic(axes: Any) -> None:
    """A log scale with plain numbers: powers in exponents load a parser for formulas, 0.1 s."""
    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain if high < 12 * low else NullFormatter())
