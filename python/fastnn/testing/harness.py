"""Running a row of the op table: inputs to Tensors, forward, backward, results to NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import random
from fastnn.tensor import Tensor, tensor
from fastnn.testing.bounds import Sample, with_storage
from fastnn.testing.compare import assert_within
from fastnn.testing.op import Inputs, Op

__all__ = ["Results", "check", "results", "run", "to_tensors"]

Array = np.ndarray[Any, Any]
Results = tuple[Array, tuple[Array | None, ...]]

SEED = 0


def to_tensors(
    op: Op, values: Inputs, dtype: str, *, channels_last: bool = False
) -> list[Tensor | None]:
    """Inputs as Tensors, the first one channels-last if asked; those of floating dtype require a
    gradient."""
    tensors: list[Tensor | None] = []
    for i, x in enumerate(values):
        if x is None or x.dtype.kind in "iu":
            tensors.append(None if x is None else tensor(x))
            continue
        # The targets of a loss are float32 labels: they have no gradient.
        target = op.is_loss and i > 0
        stored = "float32" if target else dtype
        t = tensor(x.astype(np.float32), stored)
        t = t.contiguous("channels_last") if channels_last and i == 0 else t
        t.requires_grad = not target
        tensors.append(t)
    return tensors


def run(op: Op, s: Sample, *, channels_last: bool = False) -> Results:
    """(output, gradients) of a sample, as float32 arrays (bfloat16 widened)."""
    return _call(op, s.inputs, s.params, s.dtype, lambda shape: s.dy, channels_last=channels_last)


def results(
    op: Op, rng: np.random.Generator, inputs: Inputs, params: dict[str, Any], dtype: str
) -> list[Array]:
    """Output and gradients for drawn dy, without asking the oracle: to compare runs by bits."""
    y, grads = _call(op, inputs, params, dtype, lambda shape: op.draw_dy(rng, shape, dtype))
    return [y, *(g for g in grads if g is not None)]


def _call(
    op: Op,
    values: Inputs,
    params: dict[str, Any],
    dtype: str,
    dy: Callable[[tuple[int, ...]], Array],
    *,
    channels_last: bool = False,
) -> Results:
    random.manual_seed(SEED)
    inputs = to_tensors(op, values, dtype, channels_last=channels_last)
    y = op.call(*inputs, **params)
    y.backward(tensor(dy(y.shape).astype(np.float32), y.dtype))
    grads = tuple(None if x is None or x.grad is None else np.array(x.grad) for x in inputs)
    return np.array(y.detach()), grads


def check(op: Op, s: Sample, results: Results | None = None) -> None:
    """Raise AssertionError unless output and gradients of a sample are within the row's bounds."""
    y, grads = run(op, s) if results is None else results
    y_bound, bounds = op.bound(s)
    where = f"{op.short} {s.dtype} {s.params} {[None if x is None else x.shape for x in s.inputs]}"
    # A loss, and its gradient with respect to nothing else, is float32.
    y_dtype = "float32" if op.is_loss else s.dtype
    assert_within(y, s.y, with_storage(y_bound, s.y, y_dtype), f"{where}: output")
    for i, (got, oracle, bound) in enumerate(zip(grads, s.grads, bounds, strict=True)):
        if oracle is None or bound is None:
            if got is not None:
                raise AssertionError(f"{where}: expected no gradient of input {i}, got one")
            continue
        assert got is not None, f"{where}: expected a gradient of input {i}, got none"
        assert_within(got, oracle, with_storage(bound, oracle, s.dtype), f"{where}: gradient {i}")
