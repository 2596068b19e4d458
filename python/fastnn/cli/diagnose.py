"""fastnn diagnose: what the curves of a run say."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import fastnn as fn
from fastnn.cli.ensemble import members
from fastnn.cli.runfolder import check_folder, read_facts, read_metrics
from fastnn.train.curves import Curves

__all__ = ["curves", "run"]


def run(folder: str, as_json: bool) -> None:
    """Print the problems, the one to mend first at the front; of an ensemble each member's."""
    every = members(folder)
    found = [fn.train.diagnose(curves(one)) for one in every or [folder]]
    facts = [
        {"name": one.name, "problems": [dataclasses.asdict(problem) for problem in one.problems]}
        for one in found
    ]
    names = [os.path.basename(one) for one in every]
    if as_json:
        print(json.dumps(dict(zip(names, facts, strict=True)) if every else facts[0]))
    elif every:
        for name, one in zip(names, found, strict=True):
            print(f"{name}: {one}")
    else:
        print(found[0])


def curves(folder: str) -> Curves:
    """The curves in a run folder.

    Raises:
        FileNotFoundError: If it is no run folder.
        ValueError: If its files are damaged.
    """
    check_folder(folder)
    path = os.path.join(folder, "metrics.jsonl")
    if not os.path.isfile(path) and not os.path.isfile(os.path.join(folder, "fit.json")):
        raise FileNotFoundError(f"{folder}: expected a run folder, found no metrics.jsonl in it")
    facts = read_facts(folder)
    series: dict[str, list[float]] = {}
    try:
        for row in read_metrics(path):
            prefix = {"train": "", "val": "val_"}.get(row["split"])
            for name in ("loss", "accuracy"):
                if prefix is not None and name in row:
                    series.setdefault(prefix + name, []).append(float(row[name]))
        rows = read_metrics(os.path.join(folder, "steps.jsonl"))
        steps = [(int(row["epoch"]), float(row["loss"])) for row in rows]
        params: Any = facts.get("params", {})
        params = {name: int(value) for name, value in params.items()}
        first, error = facts.get("first_loss"), facts.get("error")
        first = None if first is None else float(first)
        moved: Any = facts.get("moved", {})
        moved = {name: [float(v) for v in values] for name, values in moved.items()}
        gains: Any = facts.get("gains", {})
        gains = {name: float(value) for name, value in gains.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise ValueError(f"{folder}: expected the metrics of a run, got {problem!r:.80}") from None
    error = None if error is None else str(error)
    return Curves.of(series, params, first, error, steps, moved, gains)
