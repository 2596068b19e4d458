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
    channel_norm,
    conv,
    dropout,
    embedding,
    linear,
    loss,
    margin,
    matmul,
    norm,
    parametric,
    penalty,
    pointwise_loss,
    pool,
    recurrent,
    shape,
    softmax,
    stacked,
)
from fastnn.testing.optimizers import OPTIMIZERS

__all__ = ["INTERNALS", "NO_ROW", "OPS", "OPTIMIZERS"]

OPS: tuple[Op, ...] = (
    *activation.ROWS,
    *parametric.ROWS,
    *linear.ROWS,
    *stacked.ROWS,
    *matmul.ROWS,
    *conv.ROWS,
    *norm.ROWS,
    *channel_norm.ROWS,
    *softmax.ROWS,
    *loss.ROWS,
    *penalty.ROWS,
    *pointwise_loss.ROWS,
    *margin.ROWS,
    *dropout.ROWS,
    *pool.ROWS,
    *embedding.ROWS,
    *recurrent.ROWS,
    *shape.ROWS,
    *arithmetic.ROWS,
)

# Functions without a gradient, or of a number of arrays that varies, and the test file of each.
NO_ROW: Mapping[str, str] = {
    "accuracy": "test_embedding.py",
    "argmax": "test_embedding.py",
    "one_hot": "test_embedding.py",
    "cat": "test_shape.py",
    "split": "test_shape.py",
    "stack": "test_shape.py",
    "unbind": "test_shape.py",
}

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
    "copy_rows": "test_shape.py",
    "transpose": "test_layout.py",
    "one_hot": "test_embedding.py",
    "argmax": "test_embedding.py",
    "topk_correct": "test_embedding.py",
    "advance": "test_counters.py",
    "augment": "test_augment.py",
    "mix": "test_augment.py",
    "grad_norm_max": "test_clip.py",
    "grad_norm_sum": "test_clip.py",
    "running_stats": "test_norm.py",
    "grad_norm_combine": "test_clip.py",
    "grad_scale": "test_clip.py",
    "grad_clamp": "test_clip.py",
    "scaler_begin": "test_amp.py",
    "scaler_update": "test_amp.py",
    "gemm_medium_pack": "test_matmul_precision.py",
    "gemm_medium": "test_matmul_precision.py",
    "gemm_high": "test_cuda_blas.py",
    "mlp_step": "test_cuda_mlp.py",
    "sequence_fwd": "test_cuda_recurrent.py",
    "sequence_bwd": "test_cuda_recurrent.py",
    "soft_threshold": "test_constraint.py",
    "max_norm": "test_constraint.py",
}
