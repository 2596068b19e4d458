"""Healthy and sick trainings, for fastnn.train.diagnose to tell apart.

A run is a real training of a second or less with one bug injected, or none. The development and the
held-out set share no seed, activation, widths or kind of data (digits are in both, otherwise
labelled). The held-out set is the seventh: six were measured once each and looked at, so their
kinds of data and architectures belong to the development set now; this one was written down before
any rule was changed after that.

A run counts by what happened in it, which the curves alone do not tell: the bug's own remedy makes
it clearly better. A rate ten times too high that learns as well is no sick run. Where two remedies
are near each other (longer or faster, a larger model or longer), either the other one does not, or
both are right: each remedy in REMEDIES is tried, and a diagnosis whose remedy mends the run as
clearly as the bug's own is a right answer too. A run that one of them mends is not healthy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from diagnose_setup import SEED, Run, Setup, sound
from fastnn import nn

REMEDIES: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "not_converged": lambda s: {"epochs": 2 * s.epochs},
    "rate_too_low": lambda s: {"lr": 10 * s.lr},
    "rate_too_high": lambda s: {"lr": s.lr / 10},
}
NEAR = ("rate_too_high", "slow_start", "rate_too_low", "not_converged", "underfit")
CONTRARY = {"rate_too_high": "rate_too_low"}  # what mends it by luck, if at all


def mended_by(s: Setup, r: Run) -> frozenset[str]:
    """The bugs whose remedy makes a run clearly better."""
    if r.good():
        return frozenset()
    tries = {bug: s.like(**change(s)) for bug, change in REMEDIES.items()}
    return frozenset(bug for bug, other in tries.items() if r.better(other.run()))


# ---- bugs: each changes a sound set-up and says whether it had its effect ------------------------


def healthy(rng: Any, s: Setup) -> Any:
    return lambda r: r.last("val_accuracy") >= 0.93 and r.settled() and not mended_by(s, r)


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
            if name in NEAR:
                run.also = mended_by(setup, run) - {name, CONTRARY.get(name)}
            yield run
