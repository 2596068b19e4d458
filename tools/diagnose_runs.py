"""Healthy and sick trainings, for fastnn.train.diagnose to tell apart.

A run is a real training of a second or less with one bug injected, or none. The two sets share no
seed, activation, widths or kind of data. The held-out set is the fifth: four were measured once
each and looked at, so their kinds of data and architectures belong to the development set now; this
one was written down before any rule was changed after that. A run counts if the bug has its effect:
a rate that is ten times too high and learns as well is no sick run.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import nn, optim

ACTIVATIONS = {
    "dev": (nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.LeakyReLU),
    "held-out": (nn.SiLU, nn.SELU, nn.Softplus),
}
WIDTHS = {
    "dev": ([32], [64], [64, 64], [48], [96, 48], [40, 40, 40]),
    "held-out": ([72], [120, 30], [56, 56, 28]),
}
NORMS = {
    "dev": (None, nn.BatchNorm1d, nn.LayerNorm),
    "held-out": (None, nn.BatchNorm1d, nn.RMSNorm),
}
SEED = {"dev": 0, "held-out": 5_000_000}


# ---- data ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    x: Any
    y: Any
    classes: int

    def split(self, train: int, val: int) -> tuple[Any, Any]:
        a, b = slice(train), slice(train, train + val)
        return (self.x[a], self.y[a]), (self.x[b], self.y[b])


def digits(rng: Any) -> Data:
    data = fn.data.load("digits")
    order = rng.permutation(len(data.x))
    return Data(standard(data.x[order]), data.y[order], 10)


def even_digits(rng: Any) -> Data:
    data = fn.data.load("digits")
    order = rng.permutation(np.flatnonzero(data.y % 2 == 0))
    return Data(standard(data.x[order]), data.y[order] // 2, 5)


def odd_digits(rng: Any) -> Data:
    data = fn.data.load("digits")
    order = rng.permutation(np.flatnonzero(data.y % 2 == 1))
    return Data(standard(data.x[order]), data.y[order] // 2, 5)


def blobs(rng: Any, low: int = 3, high: int = 7) -> Data:
    classes, features = int(rng.integers(low, high)), int(rng.integers(6, 16))
    y = rng.integers(0, classes, 1200)
    centers = rng.normal(0, 2.0, (classes, features))
    return Data(standard(centers[y] + rng.normal(size=(1200, features))), y, classes)


def many_blobs(rng: Any) -> Data:
    return blobs(rng, 7, 11)


def rings(rng: Any) -> Data:
    y = rng.integers(0, 2, 1200)
    angle, radius = rng.uniform(0, 2 * np.pi, 1200), 1.0 + 1.2 * y + rng.normal(0, 0.12, 1200)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(size=1200)], 1)
    return Data(standard(x), y, 2)


def moons(rng: Any) -> Data:
    y = rng.integers(0, 2, 1200)
    t = rng.uniform(0, np.pi, 1200)
    x = np.stack([np.cos(t) + y, (1 - 2 * y) * np.sin(t) + 0.5 * y], 1)
    return Data(standard(x + rng.normal(0, 0.08, x.shape)), y, 2)


def stretched(rng: Any) -> Data:
    """Clusters whose features depend on each other, with some samples far out."""
    classes, features = int(rng.integers(4, 9)), int(rng.integers(8, 21))
    y = rng.integers(0, classes, 1200)
    noise = rng.standard_t(5, (1200, features)) @ rng.normal(size=(features, features))
    centers = rng.normal(0, 2.2 * np.sqrt(features), (classes, features))
    return Data(standard(centers[y] + noise), y, classes)


def spirals(rng: Any) -> Data:
    arms = int(rng.integers(2, 4))
    y, t = rng.integers(0, arms, 1200), rng.uniform(0.3, 1.0, 1200)
    angle = 2 * np.pi * (y / arms + 0.6 * t)
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], 1)
    return Data(standard(x + rng.normal(0, 0.03, x.shape)), y, arms)


def quadrants(rng: Any) -> Data:
    """Whether two of four features have the same sign; few samples are near the border."""
    x = rng.normal(size=(1200, 4))
    x[:, :2] += 0.5 * np.sign(x[:, :2])
    return Data(standard(x), (x[:, 0] * x[:, 1] > 0).astype(np.int64), 2)


def standard(x: Any) -> Any:
    return ((x - x.mean(0)) / (x.std(0) + 1e-6)).astype(np.float32)


DATA: dict[str, tuple[Callable[[Any], Data], ...]] = {
    "dev": (digits, even_digits, blobs, many_blobs, rings, moons),
    "held-out": (odd_digits, stretched, spirals, quadrants),
}


# ---- trainings -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Setup:
    """A sound training, before a bug is injected."""

    data: Data
    hidden: list[int]
    activation: Any
    norm: Any
    dropout: float
    optimizer: str
    lr: float
    epochs: int
    batch_size: int
    seed: int
    train: int = 700
    val: int = 300
    schedule: bool = False
    end: Any = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    init_scale: float = 1.0

    def model(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = self.data.x.shape[1]
        for size in self.hidden:
            layers.append(nn.Linear(width, size))
            if self.norm is not None:
                layers.append(self.norm(size))
            layers.append(self.activation())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = size
        layers.append(nn.Linear(width, self.data.classes))
        model = nn.Sequential(*layers, *([] if self.end is None else [self.end()]))
        nn.init.auto_(model)
        for p in model.parameters():
            if len(p.shape) > 1 and self.init_scale != 1:
                p.copy_(p.detach() * self.init_scale)
        return model

    def run(self, epochs: int | None = None) -> Run:
        fn.manual_seed(self.seed)
        model = self.model()
        maker = {"sgd": optim.SGD, "adam": optim.Adam, "rmsprop": optim.RMSprop}[self.optimizer]
        momentum = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        optimizer = maker(model.parameters(), lr=self.lr, **momentum, **self.options)
        scheduler = None
        if self.schedule:
            scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, scheduler=scheduler)
        monitor = fn.train.Monitor()
        train, val = self.data.split(self.train, self.val)
        with contextlib.suppress(ValueError):  # not finite: the history says so
            trainer.fit(
                *train, self.batch_size, epochs or self.epochs, validation_data=val, verbose=0,
                callbacks=[monitor], seed=self.seed, **self.fit,
            )  # fmt: skip
        return Run(trainer.history, monitor, trainer, train, val)


@dataclasses.dataclass
class Run:
    history: Any
    monitor: Any
    trainer: Any
    train: Any
    val: Any

    def last(self, name: str) -> float:
        return float(self.history.history.get(name, [float("nan")])[-1])

    def drop(self) -> float:
        """By which share the validation loss fell since the first epoch."""
        return 1 - self.last("val_loss") / self.history.history["val_loss"][0]

    def good(self) -> bool:
        """Whether there is little left to win."""
        return self.last("val_loss") < 0.15 * np.log(self.history.params["classes"])

    def settled(self) -> bool:
        """Whether the loss is low, or moved by less than a tenth in the last quarter."""
        losses = self.history.history["val_loss"]
        return self.good() or losses[-1] > 0.9 * losses[-len(losses) // 4]


def sound(rng: Any, part: str, seed: int) -> Setup:
    optimizer = str(rng.choice(["sgd", "adam", "rmsprop"]))
    low, high = {"sgd": (0.01, 0.05), "adam": (2e-3, 8e-3), "rmsprop": (1e-3, 4e-3)}[optimizer]
    return Setup(
        data=pick(rng, DATA[part])(rng),
        hidden=list(pick(rng, WIDTHS[part])),
        activation=pick(rng, ACTIVATIONS[part]),
        norm=pick(rng, NORMS[part]),
        dropout=float(rng.choice([0.0, 0.0, 0.1, 0.2])),
        optimizer=optimizer,
        lr=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        epochs=int(rng.integers(25, 41)),
        batch_size=int(rng.choice([16, 32])),
        seed=seed,
        schedule=bool(rng.random() < 0.3),
    )


def pick(rng: Any, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


# ---- bugs: each changes a sound set-up and says whether it had its effect ------------------------


def healthy(rng: Any, s: Setup) -> Any:
    return lambda r: r.last("val_accuracy") >= 0.93 and r.settled()


def not_learning(rng: Any, s: Setup) -> Any:
    s.lr = 0.0
    return lambda r: True


def wrong_sign(rng: Any, s: Setup) -> Any:
    s.options["maximize"] = True
    s.lr *= float(rng.uniform(0.05, 0.3))
    s.epochs = int(rng.integers(6, 15))
    return lambda r: True


def diverged(rng: Any, s: Setup) -> Any:
    s.optimizer, s.norm, s.activation = "sgd", None, nn.ReLU
    s.lr = float(10 ** rng.uniform(2, 6))
    return lambda r: True


def rate_too_high(rng: Any, s: Setup) -> Any:
    s.lr *= float(10 ** rng.uniform(1.5, 2.5))
    s.schedule = False
    return lambda r: r.last("val_accuracy") < 0.85


def rate_too_low(rng: Any, s: Setup) -> Any:
    s.lr *= float(10 ** rng.uniform(-3.2, -2.4))
    s.epochs, s.schedule = int(rng.integers(12, 25)), False
    return lambda r: 0.02 < r.drop() < 0.4


def not_converged(rng: Any, s: Setup) -> Any:
    s.lr *= float(10 ** rng.uniform(-1.6, -0.8))
    s.epochs, s.schedule = int(rng.integers(4, 9)), False

    def effect(r: Run) -> bool:
        longer = s.run(3 * s.epochs)
        return not r.good() and longer.last("val_loss") < 0.6 * r.last("val_loss")

    return effect


def slow_start(rng: Any, s: Setup) -> Any:
    s.norm, s.dropout, s.schedule = None, 0.0, False
    s.hidden = s.hidden + [s.hidden[-1]] * 2
    s.init_scale, s.optimizer = float(rng.uniform(0.05, 0.25)), "sgd"
    s.lr, s.epochs = float(rng.uniform(0.01, 0.05)), 60

    def effect(r: Run) -> bool:
        losses = r.history.history["loss"]
        return losses[2] > 0.97 * r.history.first_loss and losses[-1] < 0.5 * losses[0]

    return effect


def overfit(rng: Any, s: Setup) -> Any:
    s.train, s.dropout, s.schedule = int(rng.integers(60, 140)), 0.0, False
    s.hidden, s.epochs = [256], 100
    y = s.data.y.copy()
    flipped = rng.random(len(y)) < rng.uniform(0.15, 0.3)
    y[flipped] = rng.integers(0, s.data.classes, flipped.sum())
    s.data = dataclasses.replace(s.data, y=y)
    return lambda r: (
        r.last("accuracy") > 0.97 and r.last("accuracy") - r.last("val_accuracy") > 0.15
    )


def underfit(rng: Any, s: Setup) -> Any:
    s.norm = None
    kind = rng.choice(["narrow", "decay", "dropout"])
    if kind == "narrow":
        s.hidden, s.dropout = [1], 0.0
    elif kind == "decay":
        s.options["weight_decay"] = float(rng.uniform(0.1, 0.4))
        s.optimizer, s.lr = "sgd", min(s.lr, 0.03)
    else:
        s.dropout = float(rng.uniform(0.85, 0.95))
    s.epochs = 60
    return lambda r: (
        r.trainer.evaluate(*r.train)["accuracy"] < 0.85
        and r.history.history["loss"][-1] > 0.9 * r.history.history["loss"][-20]
    )


def validation_too_small(rng: Any, s: Setup) -> Any:
    s.val = int(rng.integers(8, 16))

    def effect(r: Run) -> bool:
        """Nothing else is wrong, as a larger set shows."""
        more, losses = r.trainer.evaluate(*s.data.split(700, 300)[1]), r.history.history["loss"]
        low = more["loss"] < 0.15 * np.log(s.data.classes)
        return more["accuracy"] >= 0.93 and (low or losses[-1] > 0.9 * losses[-len(losses) // 4])

    return effect


def not_shuffled(rng: Any, s: Setup) -> Any:
    order = np.argsort(s.data.y[: s.train], kind="stable")
    s.data.x[: s.train], s.data.y[: s.train] = s.data.x[order], s.data.y[order]
    s.fit["shuffle"] = False
    return lambda r: True


def softmax_twice(rng: Any, s: Setup) -> Any:
    s.end = nn.Softmax
    return lambda r: r.last("accuracy") > 0.8


BUGS: dict[str, Callable[[Any, Setup], Any]] = {
    f.__name__: f
    for f in (
        healthy,
        diverged,
        wrong_sign,
        not_learning,
        not_shuffled,
        softmax_twice,
        rate_too_high,
        slow_start,
        rate_too_low,
        not_converged,
        overfit,
        underfit,
        validation_too_small,
    )
}


def runs(part: str, name: str, count: int) -> Iterator[Run]:
    """So many runs with a bug whose effect shows."""
    index = list(BUGS).index(name)
    found = tried = 0
    while found < count:
        seed = SEED[part] + 10_000 * index + tried
        tried += 1
        if tried > 40 * count:
            raise RuntimeError(f"{name}: only {found} of {tried} had an effect")
        rng = np.random.default_rng(seed)
        setup = sound(rng, part, seed)
        has_effect = BUGS[name](rng, setup)
        run = setup.run()
        failed = run.history.error is not None
        if failed == (name == "diverged") and has_effect(run):
            found += 1
            yield run
