"""Where a training is: what a fit that goes on starts from."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from fastnn import random

__all__ = ["Position", "Sums"]


@dataclasses.dataclass
class Sums:
    """Over the samples of an epoch that are done, for one model.

    Attributes:
        loss: Sum of the losses.
        correct: Number of correct answers.
        terms: Sums of the loss's terms, by name.
    """

    loss: float = 0.0
    correct: int = 0
    terms: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Sums:
        """The sums that ``dataclasses.asdict`` made a dictionary of, as :meth:`Position.of`."""
        sums = cls(state["loss"], state["correct"], dict(state["terms"]))
        if type(sums.loss) is not float:
            raise ValueError(f"position: expected a float loss, got {str(sums.loss)[:80]!r}")
        _check_count("correct", sums.correct)
        for name, value in sums.terms.items():
            if type(name) is not str or type(value) is not float:
                raise ValueError(f"position: expected float terms, got {str(value)[:80]!r}")
        return sums


@dataclasses.dataclass
class Position:
    """Where training is.

    Attributes:
        epoch: Whole epochs done.
        done: Samples done in the next one.
        skipped: How many of those are not in the sums.
        seed: What the order of the samples depends on.
        samples: Size of the data.
        batch_size: Samples per step.
        sums: Those of each model; none before an epoch.
    """

    epoch: int = 0
    done: int = 0
    skipped: int = 0
    seed: int = 0
    samples: int = 0
    batch_size: int = 0
    sums: list[Sums] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Position:
        """The position that ``dataclasses.asdict`` made a dictionary of.

        Raises:
            KeyError: If something is missing.
            ValueError: If a value is not of its kind.
        """
        names = [f.name for f in dataclasses.fields(cls) if f.name != "sums"]
        for name in names:
            _check_count(name, state[name])
        sums = [Sums.of(own) for own in state["sums"]]
        return cls(**{name: state[name] for name in names}, sums=sums)

    def start(self, samples: int, batch_size: int, seed: int | None) -> Position:
        """Where a fit of that data begins that goes on from here.

        Raises:
            ValueError: If the seed is out of range, or the data or steps are others than before.
        """
        known = self.samples > 0  # this is a position in a training, not only a number of epochs
        if seed is None:
            seed_now = self.seed if known else random.get_state()["shuffle"][0]
        elif isinstance(seed, numbers.Integral) and 0 <= seed < 1 << 64:
            seed_now = int(seed)
        else:
            raise ValueError(f"fit: expected 0 <= seed < 2**64, got {seed!r}")
        if known and (self.samples, self.batch_size) != (samples, batch_size):
            raise ValueError(
                f"fit: expected {self.samples} samples in batches of {self.batch_size} to go "
                f"on, got {samples} in batches of {batch_size}"
            )
        return dataclasses.replace(self, seed=seed_now, samples=samples, batch_size=batch_size)

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.done = self.skipped = 0
        self.sums = []


def _check_count(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"position: expected {name} >= 0, got {str(value)[:80]!r}")
