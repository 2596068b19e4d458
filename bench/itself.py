"""fastnn against itself: beside a spinning process (C28), and a population against runs apart.

The first variant of a case is measured against the others, in one process, in turns.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from cases import Case
from processes import Process

KINDS = ("contended", "population")


def records(
    case: Case, process: Process, variants: list[str], rounds: int, settle: float
) -> dict[str, Any]:
    """What is special about the record of a case: times, and the others as peers.

    Under "step_ratio" are the median, p95 and p99 of the first variant's samples, a millisecond or
    a step each, as parts of those of the other in the same round; then the median over rounds.
    """
    own, *others = variants
    times: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    seconds = 0.1
    if case.kind == "contended":  # a scheduler's turns are milliseconds long, and nothing rests
        settle, seconds = 0.0, 0.5
    with _spinning() if case.kind == "contended" else contextlib.nullcontext():
        for turn in range(rounds):
            for name in variants if turn % 2 == 0 else variants[::-1]:
                answer = process.ask(cmd="time", variant=name, settle=settle, seconds=seconds)
                if "us" not in answer:
                    print(f"{case.title}: {name}: {answer.get('error')}", file=sys.stderr)
                    return {}
                times[name].append(answer)
    peers = {}
    for name in others:
        pairs = list(zip(times[own], times[name], strict=True))
        share = {
            part: statistics.median(a[part] / b[part] for a, b in pairs)
            for part in ("us", "mean", "p95", "p99")
        }
        peers[name] = {
            "us": statistics.median(b["us"] for b in times[name]),
            "min_us": min(b["min"] for b in times[name]),
            "ratio": statistics.median(b["us"] / a["us"] for a, b in pairs),
            "setting": "{us:.2f} of it, mean {mean:.2f}, p95 {p95:.2f}, p99 {p99:.2f}".format(
                **share
            ),
            "step_ratio": share,
        }
    return {
        "fastnn_us": statistics.median(a["us"] for a in times[own]),
        "fastnn_min_us": min(a["min"] for a in times[own]),
        "fastnn_setting": own,
        "peers": peers,
    }


@contextlib.contextmanager
def _spinning() -> Iterator[None]:
    """A foreign process that takes all it can get of the last processor."""
    last = max(os.sched_getaffinity(0))
    child = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"],
        preexec_fn=lambda: os.sched_setaffinity(0, {last}),
    )
    try:
        yield
    finally:
        child.kill()
        child.wait()
