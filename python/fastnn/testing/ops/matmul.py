"""Products of matrices and of batches of them: their bound, cost and rows."""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U
from fastnn.testing.op import Bad, Bench, Op, Shapes, normal, size, zeros
from fastnn.testing.reference import linear as reference

__all__ = ["ROWS"]


def product(s: Sample) -> tuple[Array, Grads]:
    """16 u (|A| |B|), forward and backward."""
    a, b = (np.abs(np.asarray(v)) for v in s.inputs)
    da, db = reference.matmul_vjp(np.abs(s.dy), a, b)
    return 16 * U * reference.matmul(a, b), (16 * U * da, 16 * U * db)


def cost(s: Shapes) -> tuple[int, int]:
    (*lead, m, k), (*other, _, n) = s  # type: ignore[misc]
    batch = size(np.broadcast_shapes(tuple(lead), tuple(other)))
    return sum(map(size, s)) + batch * m * n, 2 * batch * m * n * k


_BATCHES: tuple[Shapes, ...] = (
    ((3, 4, 5), (3, 5, 2)),
    ((1, 4, 5), (3, 5, 2)),
    ((3, 4, 5), (1, 5, 2)),
    ((0, 4, 5), (0, 5, 2)),
    ((0, 4, 5), (1, 5, 2)),
    ((2, 0, 5), (2, 5, 3)),
    ((2, 4, 0), (2, 0, 3)),
    ((7, 33, 20), (7, 20, 70)),
)

_MATMUL = Op(
    name="fastnn.functional.matmul",
    family="linear",
    arrays=("other",),
    reference=(reference.matmul, reference.matmul_vjp),
    covers=(
        "gemm_pack",
        "gemm_packed",
        "gemm_small",
        "gemm_batch_pack",
        "gemm_batch",
        "gemm_spans",
        "gemm_span_sums",
        "gemm_bf16_pack",
        "gemm_bf16",
    ),
    params=({},),
    shapes=(
        ((3, 4), (4, 5)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((3, 4), (4, 0)),
        ((1, 1), (1, 1)),
        ((70, 33), (33, 90)),
        ((210, 260), (260, 200)),
        *_BATCHES,
        ((3, 4, 5), (5, 2)),  # one product of taller matrices
        ((4, 5), (3, 5, 2)),
        ((2, 1, 3, 4), (5, 4, 6)),
        ((2, 3, 4), (5, 1, 4, 6)),
        ((2, 1, 3, 3, 4), (2, 5, 1, 4, 3)),
        ((2, 200, 300), (2, 300, 280)),  # packed
        ((3, 3100), (3100, 20)),  # in spans
        ((2, 3, 3100), (2, 3100, 20)),
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((2, 3, 5), (5,)),
        ((5,), (2, 5, 3)),
    ),
    tail=lambda n: (((3, n), (n, 2)), {}),
    make=normal(),
    bound=product,
    bench=Bench((((64, 128), (128, 128)), ((1024, 1024), (1024, 1024))), cost),
    large=(((2, 6, 100, 80), (6, 80, 90)), {}),
    bad=(
        Bad(
            lambda: fastnn.zeros(2, 3) @ zeros(4, 5),
            ValueError,
            "matmul: expected other.shape[-2] == 3 to fit input (2, 3), got other (4, 5)",
        ),
        Bad(
            lambda: F.matmul(zeros(2, 3), zeros(4)),
            ValueError,
            "matmul: expected other.shape[-1] == 3 to fit input (2, 3), got other (4,)",
        ),
        Bad(
            lambda: F.matmul(zeros(3), zeros(7, 2, 5)),
            ValueError,
            "matmul: expected other.shape[-2] == 3 to fit input (3,), got other (7, 2, 5)",
        ),
        Bad(
            lambda: fastnn.zeros() @ zeros(3, 5),
            ValueError,
            "matmul: expected arrays with at least one axis, got () and (3, 5)",
        ),
        Bad(
            lambda: F.matmul(zeros(2, 3, 4, 5), zeros(4, 5, 6)),
            ValueError,
            "matmul: expected leading axes that are equal or 1, got input (2, 3, 4, 5) and other "
            "(4, 5, 6)",
        ),
        Bad(
            lambda: F.matmul(zeros(2, 3), np.zeros((3, 2), np.int64)),
            TypeError,
            "matmul: expected other of dtype float32, got int64",
        ),
        Bad(
            lambda: fastnn.zeros(2, 3) @ fastnn.tensor(zeros(3, 5), "bfloat16"),
            TypeError,
            "matmul: expected other of dtype float32, got bfloat16",
        ),
        Bad(
            lambda: F.matmul(np.zeros((2, 3), np.int64), zeros(3, 2)),
            TypeError,
            "matmul: expected input of dtype float32 or bfloat16, got int64",
        ),
    ),
)

_BMM = Op(
    name="fastnn.functional.bmm",
    family="linear",
    arrays=("mat2",),
    reference=(reference.matmul, reference.matmul_vjp),
    covers=("gemm_batch_pack", "gemm_batch", "gemm_bf16_pack", "gemm_bf16"),
    params=({},),
    shapes=(_BATCHES[0], *_BATCHES[3:4], *_BATCHES[5:]),
    tail=None,
    make=normal(),
    bound=product,
    bench=Bench((((64, 32, 64), (64, 64, 64)), ((8, 256, 256), (8, 256, 256))), cost),
    large=(((9, 100, 80), (9, 80, 90)), {}),
    bad=(
        Bad(
            lambda: F.bmm(zeros(2, 3, 4), zeros(1, 4, 5)),
            ValueError,
            "bmm: expected shapes (b, m, k) and (b, k, n), got input (2, 3, 4) and mat2 (1, 4, 5)",
        ),
    ),
)

ROWS: tuple[Op, ...] = (_MATMUL, _BMM)
