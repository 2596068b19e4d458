"""Healthy and sick trainings, for fastnn.train.diagnose to tell apart.

A run is a real training of a second or less with one bug injected, or none. The development and the
held-out set share no seed, activation, widths or kind of data. The held-out set is the sixth: five
were measured once each and looked at, so their kinds of data and architectures belong to the
development set now; this one was written down before any rule was changed after that.

A run counts by what happened in it, which the curves alone do not tell: the bug's own remedy makes
it clearly better, and where two remedies are near each other (longer or faster, a larger model or
longer), the other one does not. A rate ten times too high that learns as well is no sick run.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import fastnn as fn
import numpy as np
from diagnose_data import DATA, Data
from fastnn import nn, optim

ACTIVATIONS = {
    "dev": (
        nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.LeakyReLU, nn.SiLU, nn.SELU, nn.Softplus,
    ),
    "held-out": (nn.Hardswish, nn.ReLU6, nn.PReLU, nn.Hardtanh),
}  # fmt: skip
WIDTHS = {
    "dev": (
        [32], [64], [64, 64], [48], [96, 48], [40, 40, 40], [72], [120, 30], [56, 56, 28],
    ),
    "held-out": ([80], [100, 50], [52, 52], [44, 44, 44], [128, 32, 32]),
}  # fmt: skip
RESIDUAL = {"dev": 0.2, "held-out": 0.4}  # how often layers of one width are added to their input
NORMS = {
    "dev": (None, None, nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm),
    "held-out": (None, nn.BatchNorm1d, lambda width: nn.GroupNorm(2, width)),
}
BATCHES = {"dev": (16, 32), "held-out": (24, 40)}
SEED = {"dev": 0, "held-out": 6_000_000}


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
    residual: bool = False

    def like(self, **changes: Any) -> Setup:
        """The same training but for some changes."""
        own = {"options": dict(self.options), "fit": dict(self.fit)}
        return dataclasses.replace(self, **{**own, **changes})

    def model(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = self.data.x.shape[1]
        if self.data.x.ndim == 4:
            front = [nn.Conv2d(1, 6, 3, padding=1), self.activation(), nn.MaxPool2d(2)]
            layers, width = [*front, nn.Flatten()], 6 * 4 * 4
        for size in self.hidden:
            block: list[nn.Module] = [nn.Linear(width, size)]
            if self.norm is not None:
                block.append(self.norm(size))
            block.append(self.activation())
            if self.dropout:
                block.append(nn.Dropout(self.dropout))
            skips = self.residual and size == width
            layers += [nn.Residual(nn.Sequential(*block))] if skips else block
            width = size
        layers.append(nn.Linear(width, self.data.classes))
        model = nn.Sequential(*layers, *([] if self.end is None else [self.end()]))
        nn.init.auto_(model)
        for p in model.parameters():
            if len(p.shape) > 1 and self.init_scale != 1:
                p.copy_(p.detach() * self.init_scale)
        return model

    def run(self, monitored: bool = False) -> Run:
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
                *train, self.batch_size, self.epochs, validation_data=val, verbose=0,
                callbacks=[monitor] * monitored, seed=self.seed, **self.fit,
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

    def better(self, other: Run, share: float = 0.7) -> bool:
        """Whether another training came to less than that share of the validation loss."""
        return other.history.error is None and other.last("val_loss") < share * self.last(
            "val_loss"
        )

    def fitted(self) -> dict[str, float]:
        """Loss and accuracy on the samples trained on, as in evaluation; NaN if they are lost."""
        with contextlib.suppress(ValueError):
            return self.trainer.evaluate(*self.train)
        return {"loss": float("nan"), "accuracy": float("nan")}

    def reached(self) -> int:
        """The first epoch with half the loss of chance; the number of epochs if there is none."""
        losses = self.history.history["loss"]
        low = 0.5 * np.log(self.history.params["classes"])
        return next((i for i, loss in enumerate(losses) if loss < low), len(losses))

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
        batch_size=int(rng.choice(BATCHES[part])),
        seed=seed,
        schedule=bool(rng.random() < 0.3),
        residual=bool(rng.random() < RESIDUAL[part]),
    )


def pick(rng: Any, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


# ---- bugs: each changes a sound set-up and says whether it had its effect ------------------------


def healthy(rng: Any, s: Setup) -> Any:
    return lambda r: r.last("val_accuracy") >= 0.93 and r.settled()


def not_learning(rng: Any, s: Setup) -> Any:
    s.lr *= float(rng.choice([0.0, 1e-7]))
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
    s.schedule = False
    right = s.like()
    s.lr *= float(10 ** rng.uniform(1.5, 2.5))
    return lambda r: r.last("val_accuracy") < 0.85 and r.better(right.run())


def rate_too_low(rng: Any, s: Setup) -> Any:
    s.epochs, s.schedule = int(rng.integers(10, 25)), False
    right = s.like()
    s.lr *= float(10 ** rng.uniform(-3.2, -2.0))

    def effect(r: Run) -> bool:
        """Even much longer does not help, the rate does."""
        longer = s.like(epochs=4 * s.epochs)
        return 0.02 < r.drop() < 0.4 and r.better(right.run()) and not r.better(longer.run())

    return effect


def not_converged(rng: Any, s: Setup) -> Any:
    s.lr *= float(10 ** rng.uniform(-1.6, -0.6))
    s.epochs, s.schedule = int(rng.integers(4, 13)), False
    longer = s.like(epochs=2 * s.epochs)
    return lambda r: not r.good() and r.better(longer.run())


def slow_start(rng: Any, s: Setup) -> Any:
    s.norm, s.dropout, s.schedule, s.residual = None, 0.0, False, False
    s.hidden = s.hidden + [s.hidden[-1]] * 2
    s.optimizer, s.lr, s.epochs = "sgd", float(rng.uniform(0.01, 0.05)), 60
    right = s.like()
    s.init_scale = float(rng.uniform(0.05, 0.25))

    def effect(r: Run) -> bool:
        """It learns in the end, and better weights do so five epochs sooner, in half the time."""
        at = r.reached()
        if not 5 < at < s.epochs:
            return False
        sooner = right.run().reached()
        return sooner <= at // 2 and sooner <= at - 5

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
    s.norm, s.epochs = None, 60
    kind = rng.choice(["narrow", "decay", "dropout"])
    if kind == "decay":
        s.optimizer, s.lr = "sgd", min(s.lr, 0.03)
    free = s.like(dropout=0.0)
    if kind == "narrow":
        s.hidden, s.dropout = [1], 0.0
    elif kind == "decay":
        s.options["weight_decay"] = float(rng.uniform(0.1, 0.4))
    else:
        s.dropout = float(rng.uniform(0.85, 0.95))

    def effect(r: Run) -> bool:
        """It fits badly; without the restriction it would not, and nothing else helps."""
        loss = r.fitted()["loss"]
        if r.fitted()["accuracy"] > 0.85 or not free.run().fitted()["loss"] < 0.7 * loss:
            return False
        others = ({"epochs": 4 * s.epochs}, {"lr": 10 * s.lr}, {"lr": s.lr / 10})
        return not any(s.like(**other).run().fitted()["loss"] < 0.8 * loss for other in others)

    return effect


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
    x, y = s.data.x.copy(), s.data.y.copy()
    x[: s.train], y[: s.train] = x[order], y[order]
    s.data, s.fit["shuffle"] = dataclasses.replace(s.data, x=x, y=y), False
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
        run = setup.run(monitored=True)
        failed = run.history.error is not None
        if failed == (name == "diverged") and has_effect(run):
            found += 1
            yield run
