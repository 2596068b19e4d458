"""What is in a data set, feature by feature and class by class, and a picture of its images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.data.dataset import Dataset

__all__ = ["image_grid", "picture_of", "summarize"]

_ROWS = 4096  # that are float64 at a time
_GAP = 2  # pixels between images
_SCALE_TO = 48  # images are enlarged to about so many pixels


def summarize(dataset: Dataset) -> dict[str, Any]:
    """Shape, ranges, missing values and classes, as JSON-like data.

    Example:
        >>> from fastnn.data import load, summarize
        >>> facts = summarize(load([([1.0, 5.0], "a"), ([3.0, 5.0], "b"), ([2.0, 5.0], "a")]))
        >>> facts["samples"], facts["missing"], facts["constant"], facts["classes"]
        (3, 0, 1, {'a': 2, 'b': 1})
        >>> import pyarrow as pa
        >>> cities = summarize(load(pa.table({"city": ["Rome", "Bonn", None, "Rome"]})))
        >>> cities["features"][0]
        {'name': 'city', 'categories': 3, 'most_frequent': 'Rome', 'count': 2, 'missing': 1}
        >>> facts["features"][0]
        {'name': 'x0', 'minimum': 1.0, 'mean': 2.0, 'std': 0.816496580927726, 'maximum': 3.0,
         'missing': 0}
    """
    columns = _columns(dataset.x)
    features = [
        {"name": name, **{key: _plain(values[i]) for key, values in columns.items()}}
        for i, name in enumerate(dataset.features)
    ]
    for i in dataset.categorical:
        features[i] = _categories(dataset, i)
    counts = None
    if dataset.y is not None:
        each = np.bincount(dataset.y, minlength=len(dataset.classes))
        counts = {name: int(n) for name, n in zip(dataset.classes, each, strict=True)}
    return {
        "name": dataset.name,
        "samples": len(dataset.x),
        "dtype": str(dataset.x.dtype),
        "image": list(dataset.shape) or None,
        "missing": sum(feature["missing"] for feature in features),
        "constant": int((columns["minimum"] == columns["maximum"]).sum()),
        "label": dataset.label or None,
        "classes": counts,
        "features": features,
    }


def _columns(x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Statistics of each column without what is missing; NaN where all is."""
    width = x.shape[1]
    count, total, low, high = np.zeros(width), np.zeros(width), np.inf, -np.inf
    for part in _parts(x):
        there = ~np.isnan(part)
        count += there.sum(0)
        total += np.where(there, part, 0.0).sum(0)
        low = np.minimum(low, np.where(there, part, np.inf).min(0))
        high = np.maximum(high, np.where(there, part, -np.inf).max(0))
    n = np.where(count > 0, count, np.nan)
    mean = total / n
    squares = np.zeros(width)
    for part in _parts(x):
        squares += np.nan_to_num((part - mean) ** 2, nan=0.0).sum(0)
    return {
        "minimum": np.where(count > 0, low, np.nan),
        "mean": mean,
        "std": np.sqrt(squares / n),
        "maximum": np.where(count > 0, high, np.nan),
        "missing": (len(x) - count).astype(np.int64),
    }


def _categories(dataset: Dataset, column: int) -> dict[str, Any]:
    """How many categories a column has, which is there most often, and how often none is."""
    name = dataset.features[column]
    names = dataset.categories[name]
    counts = np.bincount(dataset.x[:, column].astype(np.int64), minlength=len(names))
    present = np.where([text != "" for text in names], counts, -1)
    most = int(present.argmax())
    return {
        "name": name,
        "categories": len(names),
        "most_frequent": names[most],
        "count": int(counts[most]),
        "missing": int(counts[names.index("")]) if "" in names else 0,
    }


def _parts(x: np.ndarray[Any, Any]) -> Any:
    return (x[i : i + _ROWS].astype(np.float64) for i in range(0, len(x), _ROWS))


def _plain(value: Any) -> float | int | None:
    number: float | int = value.item()
    return None if isinstance(number, float) and math.isnan(number) else number


def image_grid(dataset: Dataset, columns: int = 10) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The first images of each class, a row of them for each class: uint8 (height, width, 3).

    Without labels it is one block of the first images. Grey levels run from the smallest to the
    largest number of what is shown.

    Args:
        dataset: One of images with 1 or 3 channels.
        columns: Images in a row.

    Raises:
        ValueError: If its samples are no images of 1 or 3 channels.

    Example:
        >>> from fastnn.data import image_grid, load
        >>> image_grid(load("digits")).shape
        (502, 502, 3)
    """
    images = dataset.images
    if dataset.shape[0] not in (1, 3):
        raise ValueError(
            f"{dataset.name}: expected images of 1 or 3 channels, got {dataset.shape[0]}"
        )
    if dataset.y is None:
        shown = np.arange(min(len(images), columns * columns))
        rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    else:
        rows = [np.flatnonzero(dataset.y == c)[:columns] for c in range(len(dataset.classes))]
        rows = [row for row in rows if len(row)]
    chosen = images[np.concatenate(rows)].astype(np.float64)
    low, high = np.nanmin(chosen), np.nanmax(chosen)
    levels = np.nan_to_num(255 * (chosen - low) / (high - low or 1.0)).round().astype(np.uint8)
    cuts = np.cumsum([len(row) for row in rows])[:-1]
    return picture_of([list(part) for part in np.split(levels, cuts)], columns)


def picture_of(
    rows: list[list[np.ndarray[Any, Any]]], columns: int | None = None
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images in rows, enlarged if they are small: uint8 (height, width, 3).

    Args:
        rows: Images of 1 or 3 channels, uint8 of shape (channels, height, width). Smaller ones
            stand in the middle of their place.
        columns: Places in a row; default: as many as the longest row has images.

    Example:
        >>> import numpy as np
        >>> from fastnn.data.summary import picture_of
        >>> picture_of([[np.zeros((1, 48, 48), np.uint8)] * 3]).shape
        (52, 152, 3)
    """
    columns = columns or max(len(row) for row in rows)
    sides = [image.shape[1:] for row in rows for image in row]
    height, width = (max(side[axis] for side in sides) for axis in (0, 1))
    zoom = max(1, _SCALE_TO // max(height, width))
    height, width = height * zoom + _GAP, width * zoom + _GAP
    picture = np.full((len(rows) * height + _GAP, columns * width + _GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            tile = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
            tile = tile.repeat(zoom, 0).repeat(zoom, 1)
            top = r * height + _GAP + (height - _GAP - len(tile)) // 2
            left = c * width + _GAP + (width - _GAP - tile.shape[1]) // 2
            picture[top : top + len(tile), left : left + tile.shape[1]] = tile
    return picture
