"""Times of calls on a device, fastnn's and its peers' in turn, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Times", "interleaved"]

Call = Callable[[], Any]
_ROUND = 4e-3  # seconds of one round, at least, so that waiting for the device is a small part


class Times:
    """Seconds per call of each way, one number per round."""

    def __init__(self, rounds: Mapping[str, list[float]]) -> None:
        self.rounds = dict(rounds)

    def us(self, name: str) -> float:
        """The median in microseconds."""
        return 1e6 * statistics.median(self.rounds[name])

    def spread(self, name: str) -> float:
        """Largest less smallest, in parts of the median."""
        times = self.rounds[name]
        return (max(times) - min(times)) / statistics.median(times)


def interleaved(
    ways: Mapping[str, Call], wait: Call, rounds: int = 7, seconds: float = _ROUND
) -> Times:
    """Time ways of doing one thing: A B C, then C B A, and so on.

    Args:
        ways: Calls that enqueue the work.
        wait: Waits until all of it is done.
        rounds: How often each is timed.
        seconds: How long a timing takes at least.
    """
    counts: dict[str, int] = {}
    for name, call in ways.items():
        call()
        wait()
        start = time.perf_counter()
        call()
        wait()
        counts[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(rounds):
        for name in order:
            start = time.perf_counter()
            for _ in range(counts[name]):
                ways[name]()
            wait()
            times[name].append((time.perf_counter() - start) / counts[name])
        order.reverse()
    return Times(times)
