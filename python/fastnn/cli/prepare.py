"""From a configuration to data that a network takes: loaded, split, preprocessed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fastnn import data
from fastnn.cli import augment as augmentation
from fastnn.cli.config import Config
from fastnn.cli.runfolder import fingerprint, pack, transform
from fastnn.data.augment import Compose
from fastnn.data.categories import check_categories, find_unknown, known_first

__all__ = ["Parts", "build_pipeline", "load", "prepare", "split"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """The data, split and scaled: pairs of x and y."""

    train: tuple[Any, Any]
    val: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    extra: dict[str, Any]  # what predict needs
    augment: Compose | None = None  # of images: then x is images in train and val


def load(config: Config) -> tuple[data.Dataset, Parts]:
    """The data, and split and preprocessed."""
    if not config.data.source:
        raise ValueError(
            "train: expected DATA: digits, a file or a folder; see fastnn train --help"
        )
    d = config.data
    dataset = data.load(
        d.source, d.label, missing=d.impute != "none", categorical=d.categorical, drop=d.drop
    )
    return dataset, prepare(dataset, config)


def prepare(dataset: data.Dataset, config: Config) -> Parts:
    """Split by class, fit the preprocessing on the training part, apply it to all."""
    if dataset.y is None:
        raise ValueError(f"{dataset.name}: expected labels to train on, got none")
    if len(dataset.classes) < 2:
        raise ValueError(f"{dataset.name}: expected at least 2 classes, got {len(dataset.classes)}")
    most = max(20, len(dataset.y) // 2)
    if len(dataset.classes) > most:
        raise ValueError(
            f"{dataset.name}: expected at most {most} classes for {len(dataset.y)} samples, got "
            f"{len(dataset.classes)} in column {dataset.label!r}; is it a quantity?"
        )
    y = dataset.y
    check_categories(dataset)
    train, val, test = split(y, config)
    dataset, known = known_first(dataset, train)
    if config.data.unknown == "error":
        for unknown in find_unknown(dataset, known):
            raise ValueError(
                f"{unknown.describe(config.data.source)}, which is for validation or the test; "
                "data.unknown=ignore makes zeros of it"
            )
    pipeline = build_pipeline(config, dataset).fit(dataset.x[train])
    x = transform(pipeline, dataset.x)
    extra = {
        "classes": list(dataset.classes),
        "features": list(dataset.features),
        "label": dataset.label,
        "drop": config.data.drop,
        "categories": {name: list(names) for name, names in known.items()},
        **pack(pipeline),
        "data": fingerprint(x, y),
    }
    pairs = [(x[i], y[i]) if len(i) else None for i in (train, val, test)]
    assert pairs[0] is not None
    steps = augmentation.build(config, dataset)
    if not steps:
        return Parts(pairs[0], pairs[1], pairs[2], extra)
    images = augmentation.pixels(dataset)
    fitted = (images[train], y[train]), (images[val], y[val]) if len(val) else None
    return Parts(*fitted, pairs[2], extra, augmentation.scaled(steps, pipeline, dataset))


def split(y: np.ndarray[Any, Any], config: Config) -> tuple[np.ndarray[Any, Any], ...]:
    """Which samples are for training, for validation and for the test: three arrays of indices."""
    seed = config.train.seed if config.data.seed is None else config.data.seed
    rest, test = data.stratified_split(y, config.data.test_fraction, seed)
    inner, chosen = data.stratified_split(y[rest], config.data.val_fraction, (1 << 63) + seed)
    return rest[inner], rest[chosen], test


def build_pipeline(config: Config, dataset: data.Dataset) -> data.Pipeline:
    """The preprocessing that the configuration describes for such data, unfitted.

    Images are standardised by channel; categories become columns of 0 and 1.

    Example:
        >>> from fastnn import data
        >>> from fastnn.cli.config import Config
        >>> from fastnn.cli.prepare import build_pipeline
        >>> build_pipeline(Config(), data.load("digits"))
        Pipeline(StandardScaler(with_mean=True, with_std=True, channels=1))
    """
    d = config.data
    steps: list[data.Transform] = []
    if d.impute == "gaussian":
        steps.append(data.GaussianImputer(d.missing_indicators))
    elif d.impute != "none":
        steps.append(data.SimpleImputer(d.impute, d.missing_indicators))
    if d.scaling == "standard":  # indicators are features after the pixels
        by_channel = dataset.shape and not d.missing_indicators
        steps.append(data.StandardScaler(channels=dataset.shape[0] if by_channel else None))
    elif d.scaling == "minmax":
        steps.append(data.MinMaxScaler())
    if d.whiten != "none":
        steps.append(data.PCA(whiten=True) if d.whiten == "pca" else data.ZCA())
    return dataset.pipeline(*steps, handle_unknown=d.unknown)
