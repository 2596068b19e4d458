"""fastnn data inspect: what is in a data set."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from fastnn import data
from fastnn.cli import LABEL
from fastnn.data.categories import row_numbers, too_many
from fastnn.data.dataset import shown
from fastnn.data.tables import date_columns, mixed_columns
from fastnn.train.files import write_atomically

__all__ = ["run", "save_picture"]

_MOST = 20  # features and classes that the table shows


def run(source: str, label: str | None, output: str | None, as_json: bool) -> None:
    """Print a summary; write a picture of the images if there is an output."""
    mixed, dates = mixed_columns(source), date_columns(source)
    categorical = [name for name in (*mixed, *dates) if name != label]
    dataset = data.load(source, label, missing=True, categorical=categorical)
    if label is None and LABEL in dataset.features:
        categorical = [name for name in categorical if name != LABEL]
        dataset = data.load(source, LABEL, missing=True, categorical=categorical)
    facts = data.summarize(dataset)
    dates = [name for name in dates if name in categorical]
    facts["notes"] = {
        "texts_among_numbers": {name: mixed[name] for name in categorical if name in mixed},
        "dates": dates,
        "too_many_categories": [name for name in too_many(dataset) if name not in dates],
        "row_numbers": row_numbers(dataset),
    }
    if output is not None:
        save_picture(output, data.image_grid(dataset))
        facts["grid"] = output
    if as_json:
        print(json.dumps(facts))
    else:
        _show(facts)


def save_picture(output: str, picture: Any) -> None:
    """Write uint8 (height, width, 3) as a PNG.

    Raises:
        ValueError: If the name does not end in .png.
        ModuleNotFoundError: If Pillow is not installed.
    """
    if not output.lower().endswith(".png"):
        raise ValueError(f"{output[:80]}: expected a name that ends in .png")
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data: a grid of images needs Pillow; install it with: pip install 'fastnn[image]'"
        ) from None
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    write_atomically(output, buffer.getvalue())


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for line in _lines(facts):
        console.print(line, soft_wrap=True)
    if facts["classes"]:
        table = Table("class", box=None, pad_edge=False)
        table.add_column("samples", justify="right")
        table.add_column("share", justify="right")
        table.add_column("")
        most = max(facts["classes"].values())
        for name, count in list(facts["classes"].items())[:_MOST]:
            share, bar = count / facts["samples"], "█" * round(24 * count / most)
            table.add_row(_name(name), f"{count:,}", f"{100 * share:.1f} %", bar)
        console.print(table)
        _more(console, len(facts["classes"]), "classes")
        console.print()
    categories = [feature for feature in facts["features"] if "categories" in feature]
    numbers = [feature for feature in facts["features"] if "categories" not in feature]
    if categories:
        table = Table("category", box=None, pad_edge=False)
        table.add_column("categories", justify="right")
        table.add_column("most frequent")
        for key in ("share", "missing"):
            table.add_column(key, justify="right")
        for feature in categories[:_MOST]:
            share = f"{100 * feature['count'] / facts['samples']:.1f} %"
            most, number = _name(feature["most_frequent"]) or "-", _number(feature["categories"])
            row = (_name(feature["name"]), number, most, share, _number(feature["missing"]))
            table.add_row(*row)
        console.print(table)
        _more(console, len(categories), "columns of categories")
        console.print()
    if numbers:
        table = Table("feature", box=None, pad_edge=False)
        keys = ("minimum", "mean", "std", "maximum", "missing")
        for key in keys:
            table.add_column(key, justify="right")
        for feature in numbers[:_MOST]:
            table.add_row(_name(feature["name"]), *(_number(feature[key]) for key in keys))
        console.print(table)
        _more(console, len(numbers), "features")


def _lines(facts: dict[str, Any]) -> list[str]:
    samples, features = facts["samples"], len(facts["features"])
    what = f"{features:,} features"
    if facts["image"]:
        channels, height, width = facts["image"]
        colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        what = f"images of {width} x {height} pixels ({colours})"
    lines = [f"{_name(facts['name'])}: {samples:,} samples, {what}, {facts['dtype']}"]
    cells = samples * features
    share = 100 * facts["missing"] / cells
    numbers = (feature for feature in facts["features"] if "categories" not in feature)
    fill = "; --set data.impute=median" if any(feature["missing"] for feature in numbers) else ""
    lines.append(f"missing: {facts['missing']:,} of {cells:,} values ({share:.2f} %){fill}")
    lines.append(f"constant features: {facts['constant']:,}")
    lines += _notes(facts["notes"])
    if facts["classes"]:
        counts = [n for n in facts["classes"].values() if n]
        lines.append(
            f"label: {_name(facts['label'])}, {len(facts['classes'])} classes, the largest "
            f"{max(counts) / min(counts):.2f} times the smallest"
        )
    else:
        table = not facts["image"]
        lines.append("label: none" + ("; to name a column of a table: --label" if table else ""))
    if "grid" in facts:
        lines.append(f"images: {facts['grid']}")
    return [*lines, ""]


def _notes(notes: dict[str, Any]) -> list[str]:
    """What to think of before training on a table."""
    lines = []
    if notes["dates"]:
        names = ",".join(map(_name, notes["dates"]))
        lines.append(
            f"dates or times, of which you make numbers, or leave them out: --set data.drop={names}"
        )
    if notes["too_many_categories"]:
        names = ",".join(map(_name, notes["too_many_categories"]))
        lines.append(f"too many categories to train on: --set data.drop={names}")
    if notes["row_numbers"]:
        names = ",".join(map(_name, notes["row_numbers"]))
        lines.append(f"numbers of the rows, which say nothing of others: --set data.drop={names}")
    for name, (text, line) in notes["texts_among_numbers"].items():
        lines.append(
            f"texts among numbers: {_name(name)} has {shown(text)} in line {line}; if it holds "
            f"categories: --set data.categorical={_name(name)}"
        )
    return lines


def _name(text: str) -> str:
    """A name out of a file, fit for a terminal."""
    text = text if len(text) <= 40 else text[:37] + "..."
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _more(console: Any, count: int, what: str) -> None:
    if count > _MOST:
        console.print(f"... and {count - _MOST:,} more {what}; --json has them all")
