"""How often fastnn.train.diagnose names the bug: python tools/diagnose_eval.py [--write].

Measures the held-out set and writes docs/results/diagnose.md; --dev measures the development set,
which thresholds may be chosen on.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import fastnn as fn
from diagnose_runs import BUGS, runs
from fastnn.train import diagnose
from fastnn.train.curves import Curves

Steps = Sequence[tuple[int, float]]

NAMES = {
    "healthy": "healthy",
    "diverged": "diverged",
    "wrong_sign": "wrong sign",
    "not_learning": "not learning",
    "not_shuffled": "not shuffled",
    "softmax_twice": "softmax before the loss",
    "rate_too_high": "learning rate too high",
    "slow_start": "slow start",
    "rate_too_low": "learning rate too low",
    "not_converged": "not converged",
    "overfit": "overfit",
    "underfit": "underfit",
    "validation_too_small": "validation set too small",
}
ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass
class Score:
    """How often each (truth, diagnosis) came.

    Attributes:
        pairs: The truth's other remedies count as the truth: they mend the run, too.
        second: How often it was one of those.
        bare: As pairs, from the curves alone, without what fit notes beside them.
    """

    pairs: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    second: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bare: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, bug: str, also: Iterable[str], history: fn.train.History, steps: Steps) -> str:
        """Count a run; what it was named."""
        h, truth, others = history, NAMES[bug], {NAMES[other] for other in also}
        facts = (h.first_loss, h.error, steps)
        found = diagnose(Curves.of(h.history, h.params, *facts, h.moved, h.gains)).name
        if found in others:
            self.second[truth, found] += 1
        self.pairs[truth, truth if found in others else found] += 1
        sizes = {name: h.params[name] for name in ("classes", "val_samples")}
        bare = diagnose(Curves.of(h.history, sizes, *facts)).name
        self.bare[truth, truth if bare in others else bare] += 1
        return found if found not in others else truth

    def right(self, counts: collections.Counter) -> int:
        """How many were named right."""
        return sum(n for (truth, found), n in counts.items() if truth == found)

    def false_alarms(self, counts: collections.Counter) -> int:
        """How many healthy runs were named something else."""
        return sum(n for (truth, found), n in counts.items() if truth == "healthy" != found)


def measure(part: str, count: int, healthy: int, show: bool = False) -> Score:
    """Diagnose so many runs of each kind; show those that are named wrong."""
    score = Score()
    for bug in BUGS:
        for i, run in enumerate(runs(part, bug, healthy if bug == "healthy" else count)):
            steps = list(zip(run.monitor.epoch, run.monitor.loss, strict=True))
            found = score.add(bug, run.also, run.history, steps)
            if show and found != NAMES[bug]:
                print(f"{bug} {i}: {diagnose(run.history, run.monitor)}"[:160])
                h = run.history.history
                pick = slice(None, None, max(1, len(h.get("loss", [1])) // 10))
                for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
                    print("    ", name, [round(v, 3) for v in h.get(name, [])][pick])
                print("     first", run.history.first_loss, run.history.params, run.history.moved)
    return score


def table(score: Score) -> str:
    pairs, second = score.pairs, score.second
    lines = [
        "| run | runs | recall | precision | of those right, by another remedy | wrong |",
        "|-|-|-|-|-|-|",
    ]
    for name in NAMES.values():
        total = sum(n for (truth, _), n in pairs.items() if truth == name)
        said = sum(n for (_, found), n in pairs.items() if found == name)
        right = pairs[name, name]
        too, wrong = (listed(c, name) for c in (second, pairs))
        precision = f"{100 * right / said:.1f} %" if said else "-"
        share = f"{100 * right / total:.1f} %"
        lines.append(f"| {name} | {total} | {share} | {precision} | {too} | {wrong} |")
    return "\n".join(lines)


def listed(counts: collections.Counter, name: str) -> str:
    """What else a kind of run was named, and how often."""
    others = {f: n for (t, f), n in counts.items() if t == name and f != name}
    return ", ".join(f"{f} ({n})" for f, n in sorted(others.items())) or "-"


def recalls(pairs: collections.Counter) -> dict[str, float]:
    """Which share of each kind of run was named right."""
    totals = {n: sum(k for (t, _), k in pairs.items() if t == n) for n in NAMES.values()}
    return {name: pairs[name, name] / total for name, total in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", type=int, default=60, help="sick runs of each kind")
    parser.add_argument("--healthy", type=int, default=300)
    arguments = parser.parse_args()
    part = "dev" if arguments.dev else "held-out"
    score = measure(part, arguments.count, arguments.healthy, show=arguments.dev)
    print(table(score))
    if arguments.write:
        write(score)


def write(score: Score) -> None:
    """Write docs/results/diagnose.md."""
    pairs, total = score.pairs, sum(score.pairs.values())
    healthy = sum(n for (truth, _), n in pairs.items() if truth == "healthy")
    missed = ", ".join(f"{n} {100 * r:.0f} %" for n, r in recalls(pairs).items() if r < 0.95)
    bare = ", ".join(f"{n} {100 * r:.0f} %" for n, r in recalls(score.bare).items() if r < 0.95)
    (ROOT / "docs/results/diagnose.md").write_text(
        f"""# How often fastnn diagnose is right

{total} real trainings, each with one bug injected or none (`tools/diagnose_runs.py`), of
architectures, seeds and kinds of data that the development set does not have (digits are in both,
otherwise labelled). {score.right(pairs)} were named right,
{sum(score.second.values())} of them by a second remedy that mends them; of {healthy} healthy runs
{score.false_alarms(pairs)} gave a false alarm. Below the bar of 95 % are: {missed or "none"}.

This is the seventh held-out set. Four of 340 runs each and two of 1020 were measured once each and
then looked at (96, 95, 97, 98, 96 and 97 % of all runs right, 4 false alarms among 1000 healthy
runs; in the sixth, `learning rate too low` and `underfit` were right in 88 %, `learning rate too
high` in 90 %, `softmax before the loss` in 93 %). What these held belongs to the development set
since, and this set, with what makes a run one of a kind, was fixed before any rule was changed
after that; rules and thresholds were chosen on the development set, and this was measured once.

A run counts by what happened in it, not by what was injected alone: its remedy makes it clearly
better (less than 0.7 of the loss), and no remedy does that to a `healthy` run. `underfit` fits the
training set better without the restriction, and not by four times as many epochs, or ten times or a
tenth of the rate; `not converged` gets better by twice as many epochs; `learning rate too low` does
not by four times as many, but does at the sound rate, as `learning rate too high` does; `slow
start` learns in half the time from sound weights.

Two remedies may mend one run: most trainings that need twice the epochs are as well off with ten
times the rate. So for the five kinds near each other (`slow start` to `underfit`, and both rates)
twice the epochs, ten times and a tenth of the rate are tried on each run, and what makes it as
clearly better is a right answer, too (but for a higher rate where it is too high already); the
table counts these apart.

The rules read what `fit` notes beside the curves: how far the weights come, what they began with,
whether the order is drawn anew and whether outputs are probabilities before a cross-entropy. From
the curves alone, as of a run folder without these notes, {score.right(score.bare)} are named right
and {score.false_alarms(score.bare)} healthy runs give a false alarm; below 95 % are then: {bare}.
Written by `python tools/diagnose_eval.py --write`.

{table(score)}
"""
    )


if __name__ == "__main__":
    main()
