"""fastnn check: the lectures' list before a long run."""

from __future__ import annotations

import dataclasses
import json

import fastnn as fn
from fastnn.cli.app import RunFailed
from fastnn.cli.train import Options, assemble, resolve

__all__ = ["run"]


def run(options: Options) -> None:
    """Print a line for each check; the run fails if one does."""
    config = resolve(options)
    _, parts, trainer = assemble(config)
    x, y = parts.train
    if parts.augment is not None:  # what the model takes, without chance
        x = parts.augment.evaluation()(x)
    report = fn.train.check(
        trainer.model,
        trainer.loss,
        x,
        y,
        optimizer=trainer.optimizer,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
    )
    if options.json:
        print(
            json.dumps({"ok": report.ok, "checks": [dataclasses.asdict(c) for c in report.checks]})
        )
    else:
        print(report)
    if not report.ok:
        failed = sum(c.status == "FAIL" for c in report.checks)
        raise RunFailed(f"{failed} of {len(report.checks)} checks failed")
