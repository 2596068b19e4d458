"""Convolutions of goal G13: depthwise ones, whose time is memory traffic, and one of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastnn as fn
import numpy as np

from bench.gpu.maker import Case, Maker, Ways

__all__ = ["convolutions"]


def _convolution(
    m: Maker, dtype: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], activation: str | None
) -> Case:
    """Forward with a bias, of as many positions as there are; torch's in both of its layouts."""
    depthwise, spatial = w_shape[1] == 1, len(w_shape) - 2
    padding, groups = w_shape[-1] // 2, x_shape[1] // w_shape[1]
    name = f"conv{spatial}d"

    def make() -> Ways:
        arrays = m.numbers(*x_shape), m.numbers(*w_shape), m.numbers(w_shape[0])
        own = [m.ours(v, dtype) for v in arrays]
        conv = getattr(fn.functional, name)

        def ours() -> Any:
            with fn.no_grad():
                return conv(*own, padding=padding, groups=groups, activation=activation)

        def theirs(last: bool) -> Callable[[], Any]:
            f = m.torch.nn.functional
            x, w, b = (m.theirs(v, dtype) for v in arrays)
            if last:
                x, w = (v.to(memory_format=m.torch.channels_last) for v in (x, w))
            other = getattr(f, name)

            def run() -> Any:
                y = other(x, w, b, padding=padding, groups=groups)
                return y if activation is None else getattr(f, activation)(y)

            return run

        ways = m.ways(ours, lambda: theirs(False))
        if m.torch is not None and spatial == 2:
            ways["torch channels-last"] = theirs(True)
        return ways

    positions = float(x_shape[0] * np.prod(x_shape[2:]))
    flops = 2 * positions * float(np.prod(w_shape))
    moved = positions * (x_shape[1] + w_shape[0]) * (2 if dtype == "bfloat16" else 4)
    title = f"{'depthwise ' if depthwise else ''}{name} {dtype} {'x'.join(map(str, x_shape))}"
    return Case("G13", title, make, bytes=moved, flops=flops)


def convolutions(m: Maker) -> Iterator[Case]:
    images = (m.size(64, 2), m.size(256, 4), m.size(56, 5), m.size(56, 5))
    rows = (m.size(4, 1), m.size(12288, 6), m.size(4096, 9))
    few = (images[0], m.size(64, 5), *images[2:])
    for dtype in ("float32", "bfloat16"):
        yield _convolution(m, dtype, images, (images[1], 1, 3, 3), None)
        yield _convolution(m, dtype, rows, (rows[1], 1, 3), None)
        yield _convolution(m, dtype, few, (few[1], few[1], 3, 3), "relu")
