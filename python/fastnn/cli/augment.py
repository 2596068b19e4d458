"""``[data] augment``: transforms by name, and a picture of what they do (fastnn data preview)."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import numpy as np

from fastnn import data
from fastnn.cli import config as configuration
from fastnn.cli.config import Config
from fastnn.cli.inspect import save_picture
from fastnn.data import augment
from fastnn.data.augment.mix import Mix
from fastnn.data.augment.run import Runner
from fastnn.data.summary import picture_of

__all__ = ["build", "preview", "scaled"]

_NAMES = [name for name in augment.__all__ if name[0].isupper() and name not in (
    "Augmentation", "Compose", "Lambda",
)]  # fmt: skip
_SAMPLES, _VERSIONS = 8, 9


def build(config: Config, dataset: data.Dataset) -> list[augment.Augmentation]:
    """The transforms of the configuration, in order.

    Raises:
        ValueError: If there are some and the data are no images, or one is unknown or refuses an
            option.

    Example:
        >>> from fastnn import data
        >>> from fastnn.cli.augment import build
        >>> from fastnn.cli.config import Config
        >>> config = Config()
        >>> config.data.augment = [{"name": "RandomCrop", "size": 8, "padding": 1}]
        >>> build(config, data.load("digits"))[0].padding
        1
    """
    entries = config.data.augment
    if entries and not dataset.shape:
        raise ValueError(f"{dataset.name}: expected images to augment, got rows of numbers")
    return [_make(entry, len(dataset.classes)) for entry in entries]


def _make(entry: str | dict[str, Any], classes: int) -> augment.Augmentation:
    if not isinstance(entry, (str, dict)):  # of a list inside; those outside are checked before
        raise ValueError(f"data.augment: expected transforms, got {entry!r}")
    options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = str(options.pop("name", ""))
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_NAMES)}"
        raise ValueError(f"data.augment: unknown transform {name[:80]!r}{hint}")
    kind = getattr(augment, name)
    if issubclass(kind, Mix):
        options.setdefault("num_classes", classes)
    known = list(inspect.signature(kind).parameters)
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(
            f"data.augment: {name} has no option {unknown[0][:80]!r}; known: {', '.join(known)}"
        )
    if "transforms" in options:
        if not isinstance(options["transforms"], list):
            raise ValueError(f"data.augment: {name}: expected transforms to be a list")
        options["transforms"] = [_make(entry, classes) for entry in options["transforms"]]
    try:
        made: augment.Augmentation = kind(**{key: _tuple(v) for key, v in options.items()})
    except TypeError as error:
        what = str(error).removeprefix(f"{name}: ").removeprefix(f"{name}.__init__() ")
        raise ValueError(f"data.augment: {name}: {what}") from None
    except ValueError as error:
        raise ValueError(f"data.augment: {error}") from None
    return made


def _tuple(value: Any) -> Any:
    """TOML has lists, options are tuples."""
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


def pixels(dataset: data.Dataset) -> np.ndarray[Any, Any]:
    """The images as transforms take them: grey levels as uint8, other numbers as float32."""
    x = dataset.images
    if x.dtype == np.uint8:
        return x
    levels = x.astype(np.float32)
    whole = levels.size and levels.min() >= 0 and 1 < levels.max() <= 255
    if whole and (levels == np.floor(levels)).all():
        return levels.astype(np.uint8)
    return levels


def scaled(
    steps: list[augment.Augmentation], pipeline: data.Pipeline, dataset: data.Dataset
) -> augment.Compose:
    """The transforms, then the preprocessing: one number for each channel to take away, one to
    divide by.

    Raises:
        ValueError: If the preprocessing is of another kind.
    """
    channels, height, width = dataset.shape
    features = channels * height * width
    try:
        zero, one = pipeline.transform(np.stack([np.zeros(features), np.ones(features)]))
        at_zero, scale = zero.reshape(channels, -1), (one - zero).reshape(channels, -1)
        by_channel = np.ptp(scale, 1).max() == 0 and np.ptp(at_zero, 1).max() == 0
    except ValueError:
        by_channel = False
    if not by_channel or scale.min() <= 0:
        raise ValueError(
            "data.augment: expected scaling 'standard' or 'none' and no whitening beside it"
        )
    std = 1 / scale[:, 0]
    normalize = augment.Normalize([*(-at_zero[:, 0] * std)], [*std])
    single = [t for t in steps if not isinstance(t, Mix)]
    mixing = [t for t in steps if isinstance(t, Mix)]
    whole = augment.Compose([*single, augment.ToDtype("float32"), normalize, *mixing])
    shape = Runner(whole, dataset.shape, pixels(dataset).dtype == np.float32).shape
    if shape != tuple(dataset.shape):
        raise ValueError(
            f"data.augment: expected transforms that keep the shape {tuple(dataset.shape)} of "
            f"images, got {shape}"
        )
    return whole


def preview(config_path: str, settings: tuple[str, ...], source: str | None, output: str) -> None:
    """Write a picture: in each row an image, then what it becomes in the first epochs.

    Raises:
        ValueError: If there is nothing to see, or the configuration is wrong.
    """
    config = configuration.load(config_path, settings)
    source = source or config.data.source
    if not source:
        raise ValueError("preview: expected data.source in the configuration, or DATA")
    dataset = data.load(source, config.data.label, missing=True)
    steps = build(config, dataset)
    if not steps:
        raise ValueError(f"{config_path}: expected transforms in data.augment, got none")
    images = pixels(dataset)
    labels = np.zeros(len(images), np.int64) if dataset.y is None else dataset.y
    chosen = np.linspace(0, len(images) - 1, min(_SAMPLES, len(images))).astype(np.int64)
    mixes = any(isinstance(t, Mix) for t in steps)
    single = [t for t in steps if not isinstance(t, Mix)]
    mixing = [augment.ToDtype("float32"), *(t for t in steps if isinstance(t, Mix))]
    shown = augment.Compose([*single, *(mixing if mixes else [])])
    columns = [images[chosen]]
    for epoch in range(_VERSIONS):
        made = shown(
            images[chosen],
            labels[chosen] if mixes else None,
            seed=config.train.seed,
            epoch=epoch,
            index=chosen,
        )
        columns.append(made[0] if mixes else made)
    white = 255.0 if dataset.x.dtype == np.uint8 else float(images.max())
    levels = [np.clip(c * (255 / white), 0, 255).round().astype(np.uint8) for c in columns]
    save_picture(output, picture_of([list(row) for row in zip(*levels, strict=True)]))
    print(f"{output}: {len(chosen)} images, each as it is and as in {_VERSIONS} epochs")
