"""The optimizer table: one row per optimizer, as ops has one per op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastnn.testing.reference import optim

__all__ = ["OPTIMIZERS", "OptimizerRow"]

Options = dict[str, Any]


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer.

    Attributes:
        name: Class in ``fastnn.optim``.
        reference: Oracle of one step.
        covers: Entries of ``struct Kernels``.
        options: Sets of options to test against the oracle.
        converges: Sets of options that reach the minimum of the test functions.
        bad: Options that must be refused, and the exact message.
        cuda: None, or "pending: why".
        xfail: Reason per test template that it is known to fail.
    """

    name: str
    reference: Callable[..., Any]
    covers: tuple[str, ...]
    options: tuple[dict[str, Any], ...]
    converges: tuple[dict[str, Any], ...]  # options that reach the minimum of the test functions
    bad: tuple[tuple[dict[str, Any], str], ...]
    cuda: str | None
    xfail: Mapping[str, str] = field(default_factory=dict)


def _bad_adam(name: str) -> tuple[tuple[dict[str, Any], str], ...]:
    return (
        ({"lr": -1.0}, f"{name}: expected a finite lr >= 0.0, got -1.0"),
        ({"lr": float("nan")}, f"{name}: expected a finite lr >= 0.0, got nan"),
        ({"lr": float("inf")}, f"{name}: expected a finite lr >= 0.0, got inf"),
        ({"betas": (1.0, 0.9)}, f"{name}: expected 0.0 <= betas[0] < 1.0, got 1.0"),
        ({"betas": (0.9, -0.1)}, f"{name}: expected 0.0 <= betas[1] < 1.0, got -0.1"),
        ({"eps": -1e-8}, f"{name}: expected a finite eps >= 0.0, got -1e-08"),
        ({"weight_decay": -1.0}, f"{name}: expected a finite weight_decay >= 0.0, got -1.0"),
    )


_ADAM_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.1, "weight_decay": 0.05},
    {"betas": (0.5, 0.9), "eps": 1e-3},
    {"maximize": True},
)

OPTIMIZERS: tuple[OptimizerRow, ...] = (
    OptimizerRow(
        name="SGD",
        reference=optim.sgd,
        covers=("sgd", "optim_begin", "optim_check"),
        options=(
            {},
            {"lr": 0.1, "weight_decay": 0.01},
            {"lr": 0.01, "momentum": 0.9},
            {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
            {"lr": 0.01, "momentum": 0.9, "nesterov": True},
            {"maximize": True},
        ),
        converges=({"lr": 1e-3, "momentum": 0.9},),
        bad=(
            ({"lr": -0.1}, "SGD: expected a finite lr >= 0.0, got -0.1"),
            ({"momentum": -0.1}, "SGD: expected a finite momentum >= 0.0, got -0.1"),
            ({"weight_decay": float("nan")}, "SGD: expected a finite weight_decay >= 0.0, got nan"),
            (
                {"nesterov": True},
                "SGD: expected momentum > 0 and dampening 0 with nesterov, got "
                "momentum=0.0, dampening=0.0",
            ),
            (
                {"nesterov": True, "momentum": 0.9, "dampening": 0.5},
                "SGD: expected momentum > 0 and dampening 0 with nesterov, got "
                "momentum=0.9, dampening=0.5",
            ),
        ),
        cuda=None,
    ),
    OptimizerRow(
        "Adam",
        optim.adam,
        ("adam", "optim_begin", "optim_check"),
        _ADAM_OPTIONS,
        ({"lr": 0.01},),
        _bad_adam("Adam"),
        None,
    ),
    OptimizerRow(
        "AdamW",
        optim.adamw,
        ("adam", "optim_begin", "optim_check"),
        _ADAM_OPTIONS,
        ({"lr": 0.01, "weight_decay": 0.0},),
        _bad_adam("AdamW"),
        None,
    ),
)
