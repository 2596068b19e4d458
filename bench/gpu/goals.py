"""Goals G1 to G17 of docs/goals.md as bars, and what a run's records say about them.

A bar is met by numbers of one run only: a share of that run's own copy bandwidth (C), a time, or
how many times as long a peer takes. What was not measured is missed, never assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["GOALS", "Bar", "Goal", "judge", "line"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One number and its limit.

    Attributes:
        measure: "C" (% of the copy bandwidth), "us", "value" (a number by itself), or a peer, whose
            time is divided by fastnn's.
        limit: At least this; at most, where ``at_most``.
        of: Which of the goal's records, a pattern of their titles.
        at_most: For times and sizes.
    """

    measure: str
    limit: float
    of: str = ""
    at_most: bool = False

    @property
    def text(self) -> str:
        """What it asks for."""
        name = {"C": "% of C", "value": "", "us": "us"}.get(self.measure, f"x {self.measure}")
        sign = "<=" if self.at_most else ">="
        return " ".join(part for part in (self.of, f"{sign} {self.limit:g}", name) if part)

    def value(self, records: Iterable[Record]) -> float | None:
        """The worst of shares, times and values; of ratios the geometric mean. None: unmeasured."""
        found = [v for r in records if re.search(self.of, r["title"]) for v in self._of(r)]
        if not found:
            return None
        if self.measure in ("C", "us", "value"):
            return max(found) if self.at_most else min(found)
        return math.exp(sum(map(math.log, found)) / len(found))

    def _of(self, record: Record) -> list[float]:
        if self.measure in ("C", "us", "value"):
            key = {"C": "pct_C", "us": "fastnn_us", "value": "value"}[self.measure]
            return [] if record.get(key) is None else [float(record[key])]
        peer = record.get("peers", {}).get(self.measure)
        return [] if peer is None else [peer / record["fastnn_us"]]

    def met(self, value: float | None) -> bool:
        """Whether a value is good enough."""
        if value is None:
            return False
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True)
class Goal:
    """A goal: its id, what it is about, its bars, and why it cannot be met yet, if so."""

    id: str
    what: str
    bars: Sequence[Bar]
    missing: str = ""


def _at_most(limit: float, of: str = "", measure: str = "us") -> Bar:
    return Bar(measure, limit, of, at_most=True)


_EAGER, _COMPILE, _FUSED, _LAST = (
    "torch eager",
    "torch compile",
    "torch fused",
    "torch channels-last",
)
GOALS = (
    Goal("G1", "elementwise, 64M elements", [Bar("C", 92)]),
    Goal("G2", "dropout, no mask stored", [Bar("C", 85), Bar(_EAGER, 1.2)]),
    Goal(
        "G3",
        "LayerNorm and RMSNorm forward",
        [
            Bar("C", 60, "x256$"),
            Bar("C", 80, "x1024$"),
            Bar("C", 90, "x(4096|16384)$"),
            Bar("C", 85, "x32768$"),
            Bar(_EAGER, 1.25),
            Bar(_COMPILE, 1.0),
        ],
    ),
    Goal(
        "G4",
        "LayerNorm forward and backward",
        [Bar("C", 80), Bar(_EAGER, 1.6), Bar(_COMPILE, 1.0)],
    ),
    Goal(
        "G5",
        "softmax; cross entropy with its gradient",
        [
            Bar("C", 90, "^softmax"),
            Bar(_EAGER, 2.5, "^cross_entropy"),
            Bar(_COMPILE, 1.5, "^cross_entropy"),
        ],
    ),
    Goal(
        "G6",
        "BatchNorm + ReLU, GroupNorm, channels-last",
        [Bar(_EAGER, 1.3, "^batch_norm"), Bar(_EAGER, 2.5, "^group_norm")],
    ),
    Goal(
        "G7",
        "AdamW of all parameters in one launch",
        [
            Bar("C", 93, "^adamw (200|10)x"),
            Bar(_FUSED, 1.1, "^adamw (200|10)x"),
            Bar(_FUSED, 10, "^adamw (1000|10000)x"),
            Bar("plain step", 1 / 1.35, "^clipped"),
        ],
    ),
    Goal(
        "G8",
        "products: the path chosen; wgmma kernels",
        [Bar(_EAGER, 0.98, "^matmul"), Bar(_EAGER, 0.9, "^wgmma bfloat16")],
    ),
    Goal(
        "G9",
        "Linear with bias and GELU",
        [
            Bar(_EAGER, 1.4, "k512$"),
            Bar(_EAGER, 1.2, "k1024$"),
            Bar(_EAGER, 1.05, "k4096$"),
            Bar(_EAGER, 1.15, r"^two layers fwd\+bwd"),
        ],
    ),
    Goal(
        "G10",
        "a step of an MLP of 4 x 2048",
        [Bar(_FUSED, 1.25), Bar(_COMPILE, 1.05)],
        missing="no bfloat16 step with float32 weights yet",
    ),
    Goal(
        "G11",
        "a step of a small MLP",
        [Bar(_EAGER, 12), Bar(_COMPILE, 3), _at_most(25)],
    ),
    Goal(
        "G12",
        "LSTM and GRU in clusters, bfloat16",
        [
            Bar(_EAGER, 1.5, " medium "),
            Bar("torch half", 1.0, "^LSTM medium "),
            Bar("torch half", 1.5, "^GRU medium "),
        ],
    ),
    Goal(
        "G13",
        "convolution",
        [
            Bar("C", 75, "^depthwise"),
            Bar(_EAGER, 2.0, "^depthwise"),
            Bar(_LAST, 0.7, "^conv2d bfloat16"),
        ],
    ),
    Goal("G14", "cost of a call", [_at_most(4, "^relu"), _at_most(8, "^replay")]),
    Goal("G15", "the same bits three times", [Bar("value", 1, "^reruns")]),
    Goal(
        "G16",
        "errors against float64",
        [_at_most(2e-6, "^error float32", "value"), _at_most(4e-3, "^error bfloat16", "value")],
    ),
    Goal("G17", "the size of the library", [_at_most(15, "^MB", "value")]),
)


def judge(goal: Goal, records: Iterable[Record]) -> Record:
    """PASS if every bar of a goal is met by the records of a run, else MISS; and the numbers."""
    mine = [r for r in records if r.get("goal") == goal.id]
    bars: list[Record] = []
    for bar in goal.bars:
        value = bar.value(mine)
        bars.append({"bar": bar.text, "value": value, "met": bar.met(value)})
    passed = not goal.missing and all(bar["met"] for bar in bars)
    return {
        "goal": goal.id,
        "what": goal.what,
        "verdict": "PASS" if passed else "MISS",
        "bars": bars,
        "missing": goal.missing,
    }


def line(verdict: Record) -> str:
    """A verdict in one line."""
    numbers = "; ".join(
        f"{'not measured' if bar['value'] is None else format(bar['value'], '.3g')} ({bar['bar']})"
        for bar in verdict["bars"]
    )
    reason = f"{verdict['missing']}; " if verdict["missing"] else ""
    return f"{verdict['goal']:4} {verdict['verdict']} {verdict['what']}: {reason}{numbers}"
