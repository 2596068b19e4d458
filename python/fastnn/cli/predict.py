"""fastnn predict: classes and probabilities for new data."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import data
from fastnn.cli.ensemble import check_whole
from fastnn.cli.runfolder import check_folder, load_like, transform, unpack
from fastnn.data.categories import find_unknown
from fastnn.train.checkpoint import read_model
from fastnn.train.files import CheckpointError, write_atomically

__all__ = ["run"]


def run(folder: str, source: str, output: str | None, as_json: bool) -> None:
    """Predict, write a CSV, and say how good the predictions are if there are labels."""
    if as_json and output is None:
        raise ValueError("predict: expected -o FILE with --json: both would go to stdout")
    check_folder(folder)
    check_whole(folder)
    path = os.path.join(folder, "best.safetensors")
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{folder}: expected a run folder with a model, found no best.safetensors in it; what "
            f"may help is told by: fastnn diagnose {folder}"
        )
    model, extra = read_model(path)
    try:
        classes, features = extra["classes"], tuple(extra["features"])
        pipeline, known = unpack(extra), extra.get("categories", {})
        lists = (classes, [extra["label"]], extra.get("drop", []), list(known), *known.values())
        names = (*features, *itertools.chain(*lists))
        if not all(isinstance(part, list) for part in lists) or not all(
            isinstance(name, str) for name in names
        ):
            raise ValueError("expected names")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected the classes, features and preprocessing of a run, got {error!r:.80}"
        ) from None
    dataset = load_like(source, extra, pipeline)
    if dataset.x.shape[1] != len(features):
        raise ValueError(
            f"{source}: expected {len(features)} features as in training, got {dataset.x.shape[1]}"
        )
    _check_unknown(source, dataset, known, pipeline)
    probabilities = model.predict_proba(transform(pipeline, dataset.x))
    if probabilities.shape[1] != len(classes):
        raise CheckpointError(
            f"{path}: expected {probabilities.shape[1]} classes, got {len(classes)}"
        )
    text = _table(probabilities, classes)
    if output is None:
        sys.stdout.write(text)
    else:
        write_atomically(output, text.encode())
    result: dict[str, Any] = {"samples": len(probabilities), "output": output}
    if dataset.y is not None:
        truth = np.array(dataset.classes)[dataset.y]
        result["accuracy"] = float((np.array(classes)[probabilities.argmax(1)] == truth).mean())
    if output is not None:
        print(json.dumps(result) if as_json else _describe(result))
    elif "accuracy" in result:
        print(_describe(result), file=sys.stderr)


def _check_unknown(
    source: str, dataset: data.Dataset, known: Mapping[str, Any], pipeline: data.Pipeline
) -> None:
    """Tell of categories that the training data do not have, or refuse them."""
    for unknown in find_unknown(dataset, known):
        if pipeline.refuses_unknown:
            raise ValueError(unknown.describe(source))
        cells = f"such cells, which count as none of them: {unknown.cells}"
        print(f"warning: {unknown.describe(source)}; {cells}", file=sys.stderr)


def _table(probabilities: np.ndarray[Any, Any], classes: list[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["prediction", *(f"p_{name}" for name in classes)])
    for row in probabilities:
        writer.writerow([classes[int(row.argmax())], *(f"{p:.6g}" for p in row)])
    return buffer.getvalue()


def _describe(result: dict[str, Any]) -> str:
    accuracy = f", accuracy {100 * result['accuracy']:.2f} %" if "accuracy" in result else ""
    where = f" in {result['output']}" if result["output"] else ""
    return f"{result['samples']} predictions{where}{accuracy}"
