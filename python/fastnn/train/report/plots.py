"""Figures of runs: curves by epoch, confusion, histograms, norms, images.

Every function returns a matplotlib Figure of its own; nothing global is touched, so pyplot is not
needed and a figure shows itself in a notebook.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fastnn.train.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "confusion_figure",
    "curves_figure",
    "histogram_figure",
    "images_figure",
    "norms_figure",
    "quantity_figure",
    "save_png",
    "smooth",
    "steps_figure",
]

Rows = Sequence[Mapping[str, Any]]

_SPLITS = {"train": "training", "val": "validation"}
_COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#64b5cd")
_GRID = "#e0e0e0"
_LEGEND: dict[str, Any] = {"fontsize": 8, "framealpha": 0.85, "edgecolor": "none"}
_CELLS_WITH_NUMBERS = 20  # classes up to which the numbers of a confusion matrix can be read
_DPI = 110


def smooth(values: ArrayLike, weight: float) -> np.ndarray[Any, Any]:
    """An exponential moving average without the bias of its start.

        s_t = (1 - w) sum_i w^(t - i) x_i / (1 - w^(t + 1))

    Args:
        values: Numbers, shape (n,).
        weight: w in [0, 1): 0 changes nothing.

    Raises:
        ValueError: For a weight outside [0, 1).

    Example:
        >>> from fastnn.train.report import smooth
        >>> smooth([4.0, 1.0, 4.0], 0.5)
        array([4.        , 2.        , 3.14285714])

    Source:
        The correction is that of Kingma, Ba 2015, "Adam".
    """
    if not 0 <= weight < 1:
        raise ValueError(f"smooth: expected 0 <= weight < 1, got {weight}")
    x = np.asarray(values, np.float64)
    out, average = np.empty_like(x), 0.0
    for t, value in enumerate(x):
        average = weight * average + (1 - weight) * float(value)
        out[t] = average / (1 - weight ** (t + 1))
    return out


def curves_figure(
    runs: Mapping[str, Rows], *, title: str = "", best_epoch: int = -1, weight: float = 0.0
) -> Figure:
    """Loss and accuracy by epoch, of one run or of several over each other.

    Args:
        runs: The lines of a metrics.jsonl by the name of the run: dictionaries with epoch, split,
            loss and perhaps accuracy. One run has a color for each split, several have one each.
        title: Above the figure.
        best_epoch: The epoch to mark, counted from 0; -1 for none.
        weight: That of :func:`smooth`; what was measured stays visible behind it.

    Example:
        >>> from fastnn.train.report import curves_figure
        >>> rows = [{"epoch": e, "split": "train", "loss": 1 / (e + 1)} for e in range(5)]
        >>> len(curves_figure({"run": rows}).axes)
        1
    """
    names = [n for n in ("loss", "accuracy") if any(n in r for rows in runs.values() for r in rows)]
    panels = max(1, len(names))
    figure = _figure(5 * panels, 3.6)
    figure.subplots_adjust(
        left=0.18 / panels, right=0.985, bottom=0.14, top=0.89 if title else 0.96, wspace=0.2
    )
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, panels, i + 1)
        _draw(axes, runs, name, weight)
        if best_epoch >= 0:
            axes.axvline(best_epoch + 1, color="#888888", lw=1, ls=":", label="best epoch")
    if figure.axes:  # it is the same on all panels, and accuracy has room for it
        figure.axes[-1].legend(**_LEGEND)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def quantity_figure(
    runs: Mapping[str, Rows], names: Sequence[str], *, label: str, logarithmic: bool = False
) -> Figure:
    """Other quantities of the training lines by epoch: the learning rate, norms of gradients.

    Args:
        runs: As for :func:`curves_figure`.
        names: The keys to draw.
        label: What they are.
        logarithmic: Whether the axis is.
    """
    figure = _figure(5, 3)
    figure.subplots_adjust(left=0.19, right=0.98, bottom=0.16, top=0.96)
    axes = figure.add_subplot()
    curves = [(run, name) for run in runs for name in names]
    for i, (run, name) in enumerate(curves):
        x, y = _points(runs[run], name, "train")
        text = (name if len(runs) == 1 else run) if len(curves) > 1 else None
        axes.plot(x, y, color=_COLORS[i % len(_COLORS)], lw=1.8, marker=_marker(x), label=text)
    if logarithmic:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    _axes(axes, "epoch", label)
    if len(curves) > 1:
        axes.legend(**_LEGEND)
    return figure


def steps_figure(rows: Rows, names: Sequence[str]) -> Figure:
    """Quantities of every step, such as the norm of the gradient, on logarithmic axes.

    Args:
        rows: The lines of a steps.jsonl: dictionaries with step and the quantities.
        names: A panel for each.
    """
    figure = _figure(5 * len(names), 3)
    figure.subplots_adjust(left=0.16 / len(names), right=0.99, bottom=0.16, top=0.96, wspace=0.25)
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot([p[0] for p in points], [p[1] for p in points], color=_COLORS[i], lw=0.8)
        _logarithmic(axes)
        _axes(axes, "step", name.replace("_", " "))
    return figure


def confusion_figure(matrix: ArrayLike, classes: Sequence[str]) -> Figure:
    """A confusion matrix: rows are the truth, columns what was said, colors shares of a row.

    Args:
        matrix: Counts, shape (classes, classes).
        classes: Their names.

    Example:
        >>> from fastnn.train.report import confusion_figure
        >>> confusion_figure([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_ylabel()
        'truth'
    """
    counts = np.asarray(matrix, np.float64)
    n = len(classes)
    side = min(9.0, max(3.2, 1.2 + 0.38 * n))
    figure = _figure(1.18 * side, side)
    figure.subplots_adjust(left=0.16, right=0.97, bottom=0.14, top=0.97)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = np.arange(0, n, max(1, n // 25))
    names = [_short(classes[int(i)], 12) for i in ticks]
    wide = max(map(len, names), default=0) > 3
    axes.set_xticks(ticks, names, rotation=90 if wide else 0)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    if n <= _CELLS_WITH_NUMBERS:
        for i, j in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[i, j] > 0.55 else "#222222"
            axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=color, size=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class")
    return figure


def histogram_figure(tensors: Mapping[str, ArrayLike], *, columns: int = 4) -> Figure:
    """A histogram of each tensor, with its mean and standard deviation.

    Args:
        tensors: Arrays by name; numbers that are not finite are left out and counted.
        columns: Panels in a row.
    """
    columns = max(1, min(columns, len(tensors)))
    rows = max(1, math.ceil(len(tensors) / columns))
    figure = _figure(2.5 * columns, 1.9 * rows)
    figure.subplots_adjust(
        left=0.03, right=0.97, bottom=0.22 / rows, top=1 - 0.2 / rows, hspace=0.75, wspace=0.16
    )
    for i, (name, tensor) in enumerate(tensors.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        values = np.asarray(tensor, np.float64).ravel()
        finite = values[np.isfinite(values)]
        if finite.size:
            axes.hist(finite, bins=40, color=_COLORS[0])
        text = f"{finite.mean():.2g} ± {finite.std():.2g}" if finite.size else "nothing finite"
        if finite.size < values.size:
            text += f", {values.size - finite.size:,} not finite"
        axes.set_title(f"{_short(name, 28)}\n{text}", fontsize=8)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def norms_figure(norms: Mapping[str, float], *, label: str) -> Figure:
    """A bar for each name, largest values to the right; those that are not finite have none.

    Args:
        norms: Numbers by name, first at the top.
        label: What they are.
    """
    figure = _figure(5, 0.9 + 0.28 * max(1, len(norms)))
    names = [_short(name, 30) for name in norms]
    left = min(0.45, 0.04 + 0.0135 * max(map(len, names), default=1))
    height = figure.get_size_inches()[1]
    figure.subplots_adjust(left=left, right=0.9, bottom=0.5 / height, top=1 - 0.1 / height)
    axes = figure.add_subplot()
    values = [value if math.isfinite(value) else 0.0 for value in norms.values()]
    bars = axes.barh(range(len(values)), values, color=_COLORS[0], height=0.65)
    axes.bar_label(bars, [f"{v:.3g}" for v in norms.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(values)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def images_figure(images: ArrayLike, captions: Sequence[str], *, columns: int = 8) -> Figure:
    """Images with a caption under each.

    Args:
        images: Shape (n, channels, height, width) with 1 or 3 channels, of any range: the darkest
            value is black, the brightest white.
        captions: n texts.
        columns: Images in a row.
    """
    pixels = np.asarray(images, np.float64)
    low, high = pixels.min(initial=0.0), pixels.max(initial=0.0)
    pixels = (pixels - low) / (high - low if high > low else 1.0)
    rows = max(1, math.ceil(len(pixels) / columns))
    figure = _figure(1.15 * columns, 1.5 * rows)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.14 / rows, top=0.99, hspace=0.45)
    for i, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        shown = image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(_short(caption, 24), fontsize=7.5, labelpad=2)
    return figure


def save_png(figure: Figure, path: str) -> None:
    """Write a figure as a PNG; what was there stays if that fails."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    write_atomically(path, buffer.getvalue())


# ---- how ---------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=_DPI)


def _short(text: str, most: int) -> str:
    """A name that came from outside: cut, and no formula even where it has two dollars."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def _points(rows: Rows, name: str, split: str) -> tuple[list[float], list[float]]:
    points = [
        (r["epoch"] + 1, r[name])
        for r in rows
        if r["split"] == split and isinstance(r.get(name), (int, float))
    ]
    return [p[0] for p in points], [p[1] for p in points]


def _marker(x: Sequence[float]) -> str:
    return "o" if len(x) < 3 else ""


def _draw(axes: Any, runs: Mapping[str, Rows], name: str, weight: float) -> None:
    scale = 100.0 if name == "accuracy" else 1.0
    for i, (run, rows) in enumerate(runs.items()):
        for j, (split, word) in enumerate(_SPLITS.items()):
            x, y = _points(rows, name, split)
            if not x:
                continue
            style = {"color": _COLORS[(i if len(runs) > 1 else j) % len(_COLORS)]}
            if len(runs) > 1 and split == "train":
                style["ls"] = "--"
            label = word if len(runs) == 1 else f"{_short(run, 24)}, {word}"
            values = scale * np.asarray(y, np.float64)
            if weight > 0:
                axes.plot(x, values, lw=0.8, alpha=0.5, **style)
            axes.plot(x, smooth(values, weight), lw=1.8, marker=_marker(x), label=label, **style)
    if name == "loss":
        _logarithmic(axes)
    _axes(axes, "epoch", "loss" if name == "loss" else "accuracy (%)")


def _axes(axes: Any, across: str, label: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="major", color=_GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _logarithmic(axes: Any) -> None:
    """A log scale with plain numbers: powers in exponents load a parser for formulas, 0.1 s."""
    if not math.isfinite(axes.dataLim.minposy):
        return  # nothing is positive
    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(plain)
    some = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")
    few = plain if high < 3 * low else some
    axes.yaxis.set_minor_formatter(few if high < 12 * low else NullFormatter())
