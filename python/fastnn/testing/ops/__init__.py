"""The op table: one row per differentiable op, and one per optimizer.

Test templates, benchmarks and the docs iterate it. To add an op: its oracle in
``reference/<family>.py``, and in ``ops/<family>.py`` its bound and its row, wrong calls included;
tests/test_ops.py names what is missing. Exceptions are fields of the row, with their reason; no
test body knows an op by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.testing.op import Op
from fastnn.testing.ops import (
    activation,
    arithmetic,
    dropout,
    linear,
    loss,
    norm,
    penalty,
    softmax,
)
from fastnn.testing.optimizers import OPTIMIZERS

__all__ = ["INTERNALS", "OPS", "OPTIMIZERS"]

OPS: tuple[Op, ...] = (
    *activation.ROWS,
    *linear.ROWS,
    *norm.ROWS,
    *softmax.ROWS,
    *loss.ROWS,
    *penalty.ROWS,
    *dropout.ROWS,
    *arithmetic.ROWS,
)

# Kernels behind no differentiable op, and the test file that holds each to its definition.
INTERNALS: Mapping[str, str] = {
    "uniform": "test_random.py",
    "shuffle_keys": "test_random.py",
    "rng_draw": "test_random.py",
    "to_float32": "test_arrays.py",
    "from_float32": "test_arrays.py",
    "count_correct": "test_counters.py",
    "accumulate": "test_counters.py",
    "gather": "test_counters.py",
    "advance": "test_counters.py",
    "grad_norm_max": "test_clip.py",
    "grad_norm_sum": "test_clip.py",
    "grad_norm_combine": "test_clip.py",
    "grad_scale": "test_clip.py",
    "grad_clamp": "test_clip.py",
    "soft_threshold": "test_constraint.py",
    "max_norm": "test_constraint.py",
}
