"""Several models of one configuration, trained one after the other and saved as one.

The folder of an ensemble holds the run folder of each member, whose seeds follow one another while
the split is the same, and ``best.safetensors``: their best models as one
:class:`fastnn.nn.Ensemble`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn as fn
from fastnn import data, nn, optim
from fastnn.cli import config as configuration
from fastnn.cli.config import Config
from fastnn.cli.runfolder import RunFolder, read_metrics, save_plot
from fastnn.train.checkpoint import read_model, save_model

if TYPE_CHECKING:
    from fastnn.cli.prepare import Parts
    from fastnn.cli.train import Options

__all__ = ["check_whole", "describe", "members", "train_ensemble"]


def members(folder: str) -> list[str]:
    """The members' folders in the folder of an ensemble, in their order; none in another.

    Example:
        >>> from fastnn.cli.ensemble import members
        >>> members("nowhere")
        []
    """
    if not os.path.isdir(folder):
        return []
    numbers = [n.removeprefix("member-") for n in os.listdir(folder) if n.startswith("member-")]
    found = sorted((n for n in numbers if n.isdecimal()), key=int)
    return [os.path.join(folder, f"member-{n}") for n in found]


def check_whole(folder: str) -> None:
    """Refuse an ensemble whose members are not all trained yet; anything else passes.

    Example:
        >>> from fastnn.cli.ensemble import check_whole
        >>> check_whole("nowhere")
    """
    begun = members(folder)
    if begun and not os.path.exists(os.path.join(folder, "best.safetensors")):
        k = configuration.load(os.path.join(folder, "config.toml")).train.ensemble
        raise ValueError(
            f"{folder}: expected an ensemble of {k} models, found that only {len(begun)} were "
            f"begun or trained; go on with: fastnn train --resume {folder}"
        )


def train_ensemble(
    config: Config, dataset: data.Dataset, parts: Parts, path: str, options: Options
) -> dict[str, Any]:
    """Train the members that are not trained yet, and make one model of all.

    Raises:
        ValueError: If the folder to go on in is that of a single run.
    """
    from fastnn.cli.train import make_trainer, train_one

    if os.path.exists(os.path.join(path, "last.safetensors")):
        raise ValueError(f"{path}: expected the folder of an ensemble, found that of a single run")
    folder = RunFolder(path, parts.extra, "val_loss" if parts.val else "loss")
    folder.begin(configuration.to_toml(config))
    started, results = time.perf_counter(), []
    for i in range(config.train.ensemble):
        own, place = _member(config, i), os.path.join(path, f"member-{i + 1}")
        if not options.quiet:
            print(f"member {i + 1} of {config.train.ensemble}", file=sys.stderr)
        begun = os.path.exists(os.path.join(place, "last.safetensors"))
        os.makedirs(place, exist_ok=True)
        how = dataclasses.replace(options, resume=place if begun else None)
        trainer = make_trainer(own, dataset, parts)
        results.append(train_one(own, parts, trainer, place, how, whole=path))
    best = [read_model(os.path.join(r["run"], "best.safetensors"))[0] for r in results]
    ensemble = nn.Ensemble(best)
    save_model(folder.file("best.safetensors"), ensemble, {**parts.extra, "epoch": 0})
    result = {"run": path, "members": results, **_evaluate(config, ensemble, parts, folder)}
    result["seconds"] = round(time.perf_counter() - started, 3)
    curves = {
        os.path.basename(m): read_metrics(os.path.join(m, "metrics.jsonl")) for m in members(path)
    }
    result["plot"] = save_plot(path, curves, result)
    return result


def _member(config: Config, i: int) -> Config:
    """The configuration of member i: as it stands in its own folder."""
    tree = config.model_dump()
    seed = config.train.seed
    tree["train"].update(ensemble=1, seed=seed + i)
    tree["data"]["seed"] = seed if config.data.seed is None else config.data.seed
    return configuration.validate(f"member {i + 1}", tree)


def _evaluate(
    config: Config, ensemble: nn.Ensemble, parts: Parts, folder: RunFolder
) -> dict[str, Any]:
    """What the averaged probabilities are worth, for the metrics and the result."""
    ensemble.to(config.train.device)
    loss = nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)  # no member's penalty
    trainer = fn.Trainer(ensemble, loss, optim.SGD(ensemble.parameters()))
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for name, part in (("val", parts.val), ("test", parts.test)):
        if part is None:
            continue
        x = part[0]
        if name == "val" and parts.augment is not None:  # what the model takes, without chance
            x = parts.augment.evaluation()(x)
        values = trainer.evaluate(x, part[1])
        rows.append({"epoch": 0, "step": 0, "split": name, **values})
        result.update({f"{name}_{key}": value for key, value in values.items()})
        if name == "test":
            result["test_samples"] = len(x)
    folder.write_rows(rows)
    return result


def describe(result: dict[str, Any]) -> str:
    """The result as text."""
    k, lines = len(result["members"]), []
    if "test_accuracy" in result:
        alone = [100 * m["test_accuracy"] for m in result["members"]]
        lines.append(
            f"test accuracy {100 * result['test_accuracy']:.2f} % on {result['test_samples']} "
            f"samples (loss {result['test_loss']:.4f}), with the averaged probabilities of {k} "
            f"models; alone they have {min(alone):.2f} to {max(alone):.2f} %, {np.mean(alone):.2f} "
            "% in the mean"
        )
    lines.append(f"{k} models in {result['seconds']:.2f} s; run folder {result['run']}")
    return "\n".join(lines)
