"""How a step goes: forward, loss, backward, update; as loops that record it and replay it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import F, nn
from fastnn.train.checks import Data
from fastnn.train.epoch import Batches, Loop, Result, structure
from fastnn.train.members import members_of
from fastnn.train.mlp import fused_step
from fastnn.train.objective import Objective

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["evaluation_loop", "parts_of", "train_loop"]

_EVALUATION_BATCH = 1024


def train_loop(trainer: Trainer, data: Data, batch_size: int, limit: int | None = None) -> Loop:
    """A loop over the samples, or the first ``limit`` of an epoch's order, that trains.

    A step takes ``accumulate_grad_batches`` batches; its gradient is that of all their samples as
    one batch: each batch counts by its share of the samples. The gradient of the members' losses
    added up is for each that of its own.
    """
    flags, objective, model = trainer.flags, trainer.objective, trainer.model
    scaler = trainer.precision.scaler
    models = members_of(model)
    batches = Batches(data, trainer.device, objective.terms, limit, len(models))
    is_sum = _is_sum(objective)

    def step(rows: int) -> None:
        optimizer = trainer.optimizer
        optimizer.zero_grad()
        for part in parts_of(rows, batch_size):
            x, y, weight = batches.take(part)
            share = 1.0 if is_sum else part / rows
            results = _fused(trainer, x, y, weight, share)
            if results is None:
                results = _results(trainer, models, x, y, weight)
                losses = [loss for _, loss, _ in results]
                loss = losses[0] if len(models) == 1 else F.stack(losses).sum()
                loss = loss if share == 1.0 else loss * share
                (loss if scaler is None else scaler.scale(loss)).backward()
            batches.count(results, y, part, is_sum)
        norm = flags.gradient_clip_val
        if norm is not None and flags.gradient_clip_algorithm == "value":
            params = (p for group in optimizer.param_groups for p in group["params"])
            nn.utils.clip_grad_value_(params, norm)
            norm = None
        elif norm is not None and len(models) > 1:  # the norm is each member's, not the stack's
            for member in models:
                nn.utils.clip_grad_norm_(member.parameters(), norm)
            norm = None
        optimizer.step(max_grad_norm=norm, grad_scaler=scaler)
        if scaler is not None:
            scaler.update()

    def prepare() -> object:
        trainer.optimizer.prepare()  # a callback may have brought another one
        trainer.optimizer.sync()
        return id(trainer.optimizer), trainer.optimizer.structure(), structure(model)

    rows = batch_size * flags.accumulate_grad_batches
    return Loop(batches, rows, step, prepare, switch=trainer.switch)


def evaluation_loop(trainer: Trainer, data: Data) -> Loop:
    """A loop over the samples that only measures."""
    objective, model = trainer.objective, trainer.model
    if data.labels is not None:  # a batch without labels would have no mean
        data = data.take(data.labels > 0)
    models = members_of(model)
    batches = Batches(data, trainer.device, objective.terms, members=len(models))
    is_sum = _is_sum(objective)

    def step(rows: int) -> None:
        x, y, weight = batches.take(rows)
        batches.count(_results(trainer, models, x, y, weight), y, rows, is_sum)

    rows = min(len(data.x), _EVALUATION_BATCH)
    return Loop(batches, rows, step, lambda: structure(model), switch=trainer.switch)


def _results(
    trainer: Trainer, models: list[nn.Module], x: Any, y: Any, weight: Any
) -> list[Result]:
    """What each member makes of a batch."""
    objective = trainer.objective
    results: list[Result] = []
    for member, outputs in zip(models, trainer.precision.run(trainer.model, x), strict=True):
        results.append((outputs, *objective(member, outputs, y, weight)))
    return results


def _fused(trainer: Trainer, x: Any, y: Any, weight: Any, share: float) -> list[Result] | None:
    """What a small network makes of a batch, with its gradients, by one kernel; None without it."""
    objective, precision = trainer.objective, trainer.precision
    if objective.penalties or weight is not None or precision.dtype is not None:
        return None
    made = fused_step(trainer.model, objective.loss, x, y, share)
    return None if made is None else [(*made, {})]


def parts_of(rows: int, batch_size: int) -> list[int]:
    """The sizes of the batches that so many rows make.

    Example:
        >>> from fastnn.train.step import parts_of
        >>> parts_of(70, 32)
        [32, 32, 6]
    """
    return [min(batch_size, rows - start) for start in range(0, rows, batch_size)]


def _is_sum(objective: Objective) -> bool:
    return getattr(objective.loss, "reduction", "mean") == "sum"
