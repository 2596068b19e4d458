"""Penalties on parameters: their bound and rows. Several parameters: tests/test_penalty.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.compare import U, ulp
from fastnn.testing.op import UNARY, Bad, Bench, Op, map_cost, normal, zeros
from fastnn.testing.reference import penalty as reference

__all__ = ["ROWS"]


def _bound(s: Sample) -> tuple[Array, Grads]:
    """A sum of positive terms in float64, rounded once: 2 u. Backward: two products and a sum, of
    which the parts of an elastic net may not cancel, since both have the sign of w: 4 u."""
    grad = np.abs(np.asarray(s.grads[0]))
    return np.asarray(2 * U * np.abs(s.y) + ulp(s.y)), (4 * U * grad + 2.0**-149,)


def _row(
    name: str,
    reference: tuple[Callable[..., Array], Callable[..., Grads]],
    params: tuple[dict[str, Any], ...],
    bad: tuple[Bad, ...],
) -> Op:
    return Op(
        name=f"fastnn.functional.{name}",
        family="penalty",
        arrays=(),
        reference=reference,
        covers=("penalty_fwd", "penalty_combine", "penalty_bwd"),
        params=params,
        shapes=UNARY,
        tail=lambda n: (((n,),), {}),
        make=normal(),
        bound=_bound,
        bench=Bench((((10_000,),), ((1_000_000,),)), map_cost(3)),
        bad=bad,
        dtypes=("float32",),  # the penalty is float32 whatever the parameters are
    )


def _bad(name: str, call: Callable[[], Any], message: str) -> Bad:
    return Bad(call, ValueError, f"{name}: expected {message}")


ROWS: tuple[Op, ...] = (
    _row(
        "l1_penalty",
        (reference.l1_penalty, reference.l1_penalty_vjp),
        ({"lam": 0.3}, {"lam": 0.0}),
        (
            _bad("l1_penalty", lambda: F.l1_penalty(zeros(2), -1.0), "a finite lam >= 0, got -1.0"),
            _bad("l1_penalty", lambda: F.l1_penalty([], 1.0), "at least one parameter, got none"),
        ),
    ),
    _row(
        "l2_penalty",
        (reference.l2_penalty, reference.l2_penalty_vjp),
        ({"lam": 0.3}, {"lam": 0.3, "half": True}),
        (
            _bad(
                "l2_penalty",
                lambda: F.l2_penalty(zeros(2), float("nan")),
                "a finite lam >= 0, got nan",
            ),
        ),
    ),
    _row(
        "elastic_net_penalty",
        (reference.elastic_net_penalty, reference.elastic_net_penalty_vjp),
        ({"lam": 0.3, "beta": 2.0}, {"l1": 0.2, "l2": 0.1}),
        (
            _bad(
                "elastic_net_penalty",
                lambda: F.elastic_net_penalty(zeros(2), l1=0.5),
                "either lam, or l1 and l2, got lam=None, l1=0.5, l2=None",
            ),
            _bad(
                "elastic_net_penalty",
                lambda: F.elastic_net_penalty(zeros(2), 1.0, -1.0),
                "a finite beta >= 0, got -1.0",
            ),
        ),
    ),
)
