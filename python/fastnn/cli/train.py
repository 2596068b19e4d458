"""fastnn train: from data and configuration to a run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from typing import Any

import fastnn as fn
from fastnn import data, nn
from fastnn.cli import config as configuration
from fastnn.cli.app import RunFailed
from fastnn.cli.config import Config
from fastnn.cli.prepare import Parts, load
from fastnn.cli.runfolder import RunFolder, check_folder, make_folder, read_metrics, save_plot
from fastnn.cli.schedule import build_scheduler
from fastnn.train.checkpoint import read_model

__all__ = ["Options", "build_model", "run"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line of ``fastnn train``."""

    source: str | None = None
    config: str | None = None
    settings: tuple[str, ...] = ()
    output: str | None = None
    resume: str | None = None
    label: str | None = None
    seed: int | None = None
    device: str | None = None
    ensemble: int | None = None
    json: bool = False
    quiet: bool = False


def run(options: Options, print_config: bool = False) -> None:
    """Train, or print the configuration."""
    config = resolve(options)
    if print_config:
        print(configuration.to_toml(config), end="")
        return
    dataset, parts, trainer = assemble(config)  # before there is a folder
    path = options.resume or make_folder(options.output, dataset.name)
    if config.train.ensemble > 1:
        from fastnn.cli.ensemble import describe, train_ensemble

        result = train_ensemble(config, dataset, parts, path, options)
        text = describe(result)
    else:
        result = train_one(config, parts, trainer, path, options)
        text = _describe(result)
    print(json.dumps(result) if options.json else text)


def train_one(
    config: Config, parts: Parts, trainer: fn.Trainer, path: str, options: Options, whole: str = ""
) -> dict[str, Any]:
    """Train a model in a folder, or go on there.

    Args:
        config: Of this model.
        parts: The data.
        trainer: A fresh one.
        path: The run folder.
        options: Whether to go on, and how quietly.
        whole: What to go on with after Ctrl-C, where that is another folder.
    """
    monitor = "val_loss" if parts.val else "loss"
    folder = RunFolder(path, parts.extra, monitor, config.train.save_last)
    if options.resume:
        folder.resume(trainer)
    folder.begin(configuration.to_toml(config))
    started = time.perf_counter()
    _fit(trainer, folder, parts, config, options.quiet, whole or path)
    return _finish(trainer, folder, parts, config, time.perf_counter() - started)


def assemble(config: Config) -> tuple[data.Dataset, Parts, fn.Trainer]:
    """The data, split and preprocessed, and a Trainer of a fresh model."""
    dataset, parts = load(config)
    return dataset, parts, make_trainer(config, dataset, parts)


def make_trainer(config: Config, dataset: data.Dataset, parts: Parts) -> fn.Trainer:
    """A Trainer of a fresh model."""
    fn.manual_seed(config.train.seed)
    model = build_model(config, math.prod(parts.train[0].shape[1:]), len(dataset.classes))
    model.to(config.train.device)
    optimizer = config.optim.build(model.parameters())
    scheduler, interval = build_scheduler(config, optimizer, len(parts.train[0]))
    return fn.Trainer(
        model,
        build_loss(config),
        optimizer,
        gradient_clip_val=config.train.max_grad_norm,
        precision=config.train.precision,
        accumulate_grad_batches=config.train.accumulate_grad_batches,
        scheduler=scheduler,
        scheduler_interval=interval,
    )


def build_loss(config: Config) -> Any:
    """The loss that the configuration describes, with its penalties."""
    loss = nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)
    penalties = {
        name: fn.train.WeightPenalty(function, lam)
        for name, function, lam in (
            ("l1", fn.F.l1_penalty, config.train.l1),
            ("l2", fn.F.l2_penalty, config.train.l2),
        )
        if lam > 0
    }
    return fn.train.Objective(loss, **penalties) if penalties else loss


def resolve(options: Options) -> Config:
    """The configuration: defaults, then the file, then the command line."""
    if options.resume:
        if options.config or options.output:
            raise ValueError("train: expected --resume without -c and -o: the run has its own")
        check_folder(options.resume)
        path: str | None = os.path.join(options.resume, "config.toml")
    else:
        path = options.config
    config = configuration.load(path, options.settings)
    if options.resume:
        _check_optimizer(options.resume, config)
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": options.source, "label": options.label},
        "train": {
            "seed": options.seed,
            "device": options.device,
            "ensemble": options.ensemble,
        },
    }
    tree = config.model_dump()
    for section, values in changes.items():
        tree[section].update({k: v for k, v in values.items() if v is not None})
    return configuration.validate("command line", tree)


def _check_optimizer(path: str, config: Config) -> None:
    """Refuse options of the optimizer that a resumed run would not take: it has its own."""
    before = configuration.load(os.path.join(path, "config.toml")).optim.model_dump()
    for key, value in config.optim.model_dump().items():
        if value != before.get(key):
            raise ValueError(
                f"{path}: expected optim.{key} as it was, {before.get(key)}, got {value}: an "
                "optimizer goes on with its state; begin a new run"
            )


def build_model(config: Config, features: int, classes: int) -> nn.Sequential:
    """The multilayer perceptron that the configuration describes.

    Example:
        >>> from fastnn.cli.config import Config
        >>> from fastnn.cli.train import build_model
        >>> len(build_model(Config(), 64, 10))
        4
    """
    layers: list[nn.Module] = [nn.Flatten()] if config.data.augment else []
    width = features
    for size in config.model.hidden:
        layers.append(nn.Linear(width, size))
        if config.model.layer_norm:
            layers.append(nn.LayerNorm(size))
        layers.append(_ACTIVATIONS[config.model.activation]())
        if config.model.dropout > 0:
            layers.append(nn.Dropout(config.model.dropout))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _fit(
    trainer: fn.Trainer,
    folder: RunFolder,
    parts: Parts,
    config: Config,
    quiet: bool,
    whole: str,
) -> None:
    if not quiet:
        n = [len(part[0]) if part else 0 for part in (parts.train, parts.val, parts.test)]
        print(
            f"{n[0]} samples to train on, {n[1]} for validation, {n[2]} for the test; "
            f"{trainer.model.num_parameters():,} parameters; run folder {folder.folder}",
            file=sys.stderr,
        )
    try:
        trainer.fit(
            *parts.train,
            batch_size=config.train.batch_size,
            epochs=config.train.epochs,
            validation_data=parts.val,
            callbacks=[
                *_companions(config, folder),
                folder,
            ],  # the one that saves last
            verbose=0 if quiet else 1,
            shuffle=_sampler(config.train.sampling, parts.train[1]),
            seed=config.train.seed,
            initial_epoch=None,
            augment=parts.augment,
        )
    except (KeyboardInterrupt, fn.train.Terminated):
        folder.flush(trainer)
        print(f"saved; go on with: fastnn train --resume {whole}", file=sys.stderr)
        raise
    except (ValueError, TypeError, fn.CudaError) as error:
        folder.flush(trainer)
        raise RunFailed(
            f"{error}; the state before that is in {folder.folder}, and what may help is told by: "
            f"fastnn diagnose {folder.folder}"
        ) from error
    folder.flush(trainer)


def _sampler(sampling: str, y: Any) -> bool | fn.train.Sampler:
    if sampling == "shuffle":
        return True
    balanced = sampling == "balanced"
    return fn.train.BalancedSampler(y) if balanced else fn.train.WeightedSampler()


def _companions(config: Config, folder: RunFolder) -> list[fn.train.Callback]:
    """The averages, the end of patience and the numbers of steps, if they are wanted."""
    callbacks: list[fn.train.Callback] = []
    if config.train.monitor:
        callbacks.append(fn.train.Monitor(folder.file("steps.jsonl")))
    if config.train.ema_decay is not None:
        callbacks.append(fn.train.EMA(config.train.ema_decay))
    if config.train.patience is not None:
        callbacks.append(
            fn.train.EarlyStopping(folder.best.monitor, patience=config.train.patience)
        )
    return callbacks


def _finish(
    trainer: fn.Trainer, folder: RunFolder, parts: Parts, config: Config, seconds: float
) -> dict[str, Any]:
    """Evaluate the best model on the test part, plot, and sum up."""
    best = folder.file("best.safetensors")
    if not os.path.exists(best):
        raise RunFailed(f"no epoch had a finite {folder.best.monitor}; see {folder.path}")
    step = trainer.optimizer.step_count
    trainer.ema = None  # the best model is what to evaluate
    trainer.model.load_state_dict(read_model(best)[0].to(config.train.device).state_dict())
    result: dict[str, Any] = {
        "run": folder.folder,
        "epochs": trainer.epoch,
        "best_epoch": folder.best_epoch + 1,
        folder.best.monitor: folder.best.value,
        "seconds": round(seconds, 3),
    }
    if parts.test is not None:
        test = trainer.evaluate(*parts.test)
        folder.log_test(folder.best_epoch, step, test)
        result.update({f"test_{name}": value for name, value in test.items()})
        result["test_samples"] = len(parts.test[0])
    runs = {"run": read_metrics(folder.path)}
    result["plot"] = save_plot(folder.folder, runs, result, folder.best_epoch)
    return result


def _describe(result: dict[str, Any]) -> str:
    lines = []
    if "test_accuracy" in result:
        lines.append(
            f"test accuracy {100 * result['test_accuracy']:.2f} % on {result['test_samples']} "
            f"samples (loss {result['test_loss']:.4f}), with the model of epoch "
            f"{result['best_epoch']}"
        )
    lines.append(
        f"{result['epochs']} epochs in {result['seconds']:.2f} s; run folder {result['run']}"
    )
    return "\n".join(lines)
