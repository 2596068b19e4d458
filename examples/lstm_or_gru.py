"""LSTM or GRU: their parameters and the time of a training step, side by side.

    python examples/lstm_or_gru.py
    python examples/lstm_or_gru.py --hidden 128 512 --batch 16 --length 100 --threads 1

A GRU has three gates where an LSTM has four: 3/4 of the parameters and of the arithmetic. Neither
is better everywhere. Begin with LSTM; take GRU where speed counts, LSTM for long dependencies and
large data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import nn

CELLS = (nn.LSTM, nn.GRU, nn.RNN)


def make_step(layer: nn.Module, x: np.ndarray[Any, Any]) -> Any:
    """Forward, backward and update as one native call."""
    optimizer = fn.optim.SGD(layer.parameters(), lr=1e-3)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        y = layer(x)[0]
        loss = (y * y).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    captured = fn.capture(step)
    batch = fn.tensor(x)
    return lambda: captured(batch)


def time_all(steps: Sequence[Any], rounds: int) -> list[float]:
    """The best time of each in seconds, taken in turns, so that other load meets all alike."""
    best = [float("inf")] * len(steps)
    for step in steps:
        step()  # records
    for _ in range(rounds):
        for i, step in enumerate(steps):
            start = time.perf_counter()
            step()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--input", type=int, default=64, help="features of a step")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=50, help="steps of a sequence")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, help="default: as fastnn finds")
    options = parser.parse_args(arguments)
    if options.threads:
        fn.set_num_threads(options.threads)
    x = np.random.default_rng(0).standard_normal(
        (options.length, options.batch, options.input), dtype=np.float32
    )
    print("hidden  cell  parameters  of LSTM  ms/step  of LSTM  sequences/s")
    for hidden in options.hidden:
        fn.manual_seed(0)
        layers = [cell(options.input, hidden) for cell in CELLS]
        times = time_all([make_step(layer, x) for layer in layers], options.rounds)
        for layer, seconds in zip(layers, times, strict=True):
            size = layer.num_parameters()
            print(
                f"{hidden:6}  {type(layer).__name__:4}  {size:10,}  "
                f"{size / layers[0].num_parameters():7.0%}  {seconds * 1e3:7.2f}  "
                f"{seconds / times[0]:7.0%}  {options.batch / seconds:11,.0f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
