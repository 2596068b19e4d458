"""The optimizer table: one row per optimizer, as ops/ has one per op."""

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
        reference: Oracle of one step; its defaults are the class's.
        covers: Entries of ``struct Kernels``.
        options: Sets of options to test against the oracle.
        converges: Options that reach the minimum of the test functions.
        bad: Options that must be refused, and the exact message.
        squares: Whether a gradient whose square overflows has to be refused.
        cuda: None, or "pending: why".
        xfail: Reason per test template that it is known to fail.
    """

    name: str
    reference: Callable[..., Any]
    covers: tuple[str, ...]
    options: tuple[Options, ...]
    converges: Options
    bad: tuple[tuple[Options, str], ...]
    squares: bool = True
    cuda: str | None = None
    xfail: Mapping[str, str] = field(default_factory=dict)


def _row(
    name: str,
    reference: Callable[..., Any],
    rules: tuple[str, ...],
    options: tuple[Options, ...],
    converges: Options,
    bad: tuple[tuple[Options, str], ...] = (),
    squares: bool = True,
) -> OptimizerRow:
    """A row, with what all of them have in common."""
    return OptimizerRow(
        name,
        reference,
        (*(f"optim_update[{rule}]" for rule in rules), "optim_begin", "optim_check"),
        ({}, *options, {"maximize": True}),
        converges,
        tuple(
            (wrong, f"{name}: expected {message}")
            for wrong, message in (
                ({"lr": -1.0}, "a finite lr >= 0.0, got -1.0"),
                ({"lr": float("nan")}, "a finite lr >= 0.0, got nan"),
                ({"lr": float("inf")}, "a finite lr >= 0.0, got inf"),
                ({"weight_decay": -1.0}, "a finite weight_decay >= 0.0, got -1.0"),
                *bad,
            )
        ),
        squares,
    )


_BAD_BETAS: tuple[tuple[Options, str], ...] = (
    ({"betas": (1.0, 0.9)}, "0.0 <= betas[0] < 1.0, got 1.0"),
    ({"betas": (0.9, -0.1)}, "0.0 <= betas[1] < 1.0, got -0.1"),
)
_BAD_EPS: tuple[tuple[Options, str], ...] = (({"eps": -1e-8}, "a finite eps >= 0.0, got -1e-08"),)
_BAD_MODE: tuple[tuple[Options, str], ...] = (
    ({"eps_mode": "none"}, "eps_mode to be one of 'outside', 'inside', got 'none'"),
)
_BAD_NESTEROV = "momentum > 0 and dampening 0 with nesterov, got momentum="
_BAD_FORM_D = "momentum < 1 and no nesterov with form 'D', got momentum="

_BETAS: tuple[Options, ...] = (
    {"lr": 0.1, "weight_decay": 0.05},
    {"betas": (0.5, 0.9), "eps": 1e-3},
    {"betas": (0.0, 0.5)},
)
_ADAM: tuple[Options, ...] = (
    *_BETAS,
    {"amsgrad": True, "betas": (0.9, 0.9)},
    {"bias_correction": False},
    {"eps_mode": "inside", "eps": 1e-4},
)

_SGD = _row(
    "SGD",
    optim.sgd,
    ("sgd", "sgd_momentum"),
    (
        {"lr": 0.1, "weight_decay": 0.01},
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
        {"lr": 0.01, "momentum": 0.9, "nesterov": True},
        {"lr": 0.01, "momentum": 0.9, "form": "B"},
        {"lr": 0.01, "momentum": 0.9, "form": "B", "nesterov": True},
        {"lr": 0.01, "momentum": 0.9, "form": "C"},
        {"lr": 0.01, "momentum": 0.9, "form": "C", "nesterov": True},
        {"lr": 0.01, "momentum": 0.9, "form": "D", "weight_decay": 0.01},
    ),
    {"lr": 1e-3, "momentum": 0.9},
    (
        ({"momentum": -0.1}, "a finite momentum >= 0.0, got -0.1"),
        ({"nesterov": True}, f"{_BAD_NESTEROV}0.0, dampening=0.0"),
        (
            {"nesterov": True, "momentum": 0.9, "dampening": 0.5},
            f"{_BAD_NESTEROV}0.9, dampening=0.5",
        ),
        ({"form": "E"}, "form to be one of 'A', 'B', 'C', 'D', got 'E'"),
        ({"form": "B", "dampening": 0.5}, "dampening 0 with form 'B', got 0.5"),
        ({"form": "D", "momentum": 1.0}, f"{_BAD_FORM_D}1.0, nesterov=False"),
        ({"form": "D", "momentum": 0.9, "nesterov": True}, f"{_BAD_FORM_D}0.9, nesterov=True"),
    ),
    squares=False,
)

_RMSPROP = _row(
    "RMSprop",
    optim.rmsprop,
    ("rmsprop", "rmsprop_momentum", "rmsprop_centered", "rmsprop_momentum_centered"),
    (
        {"alpha": 0.9, "weight_decay": 0.05},
        {"momentum": 0.9, "lr": 1e-3},
        {"centered": True},
        {"centered": True, "momentum": 0.9, "alpha": 0.9, "eps": 1e-3},
        {"eps_mode": "inside", "eps": 1e-4},
    ),
    {"lr": 0.003},
    (
        ({"alpha": 1.0}, "0.0 <= alpha < 1.0, got 1.0"),
        ({"momentum": -0.1}, "a finite momentum >= 0.0, got -0.1"),
        *_BAD_EPS,
        *_BAD_MODE,
    ),
)

_ADAGRAD = _row(
    "Adagrad",
    optim.adagrad,
    ("adagrad",),
    (
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.05},
        {"initial_accumulator_value": 0.5},
        {"eps_mode": "inside", "eps": 1e-4},
    ),
    {"lr": 0.25},
    (
        ({"lr_decay": -1.0}, "a finite lr_decay >= 0.0, got -1.0"),
        (
            {"initial_accumulator_value": -1.0},
            "a finite initial_accumulator_value >= 0.0, got -1.0",
        ),
        *_BAD_EPS,
        *_BAD_MODE,
    ),
)

OPTIMIZERS: tuple[OptimizerRow, ...] = (
    _SGD,
    _row(
        "Adam",
        optim.adam,
        ("adam", "adam_amsgrad"),
        (*_ADAM, {"decoupled_weight_decay": True, "weight_decay": 0.05}),
        {"lr": 0.01},
        (*_BAD_BETAS, *_BAD_EPS, *_BAD_MODE),
    ),
    _row(
        "AdamW",
        optim.adamw,
        ("adam", "adam_amsgrad"),
        _ADAM,
        {"lr": 0.01, "weight_decay": 0.0},
        (*_BAD_BETAS, *_BAD_EPS, *_BAD_MODE),
    ),
    _row(
        "NAdam",
        optim.nadam,
        ("nadam",),
        (
            *_BETAS,
            {"momentum_decay": 0.1},
            {"decoupled_weight_decay": True, "weight_decay": 0.05},
        ),
        {"lr": 0.01},
        (
            ({"momentum_decay": -1.0}, "a finite momentum_decay >= 0.0, got -1.0"),
            *_BAD_BETAS,
            *_BAD_EPS,
        ),
    ),
    _row(
        "RAdam",
        optim.radam,
        ("radam",),
        (*_BETAS, {"decoupled_weight_decay": True, "weight_decay": 0.05}),
        {"lr": 0.003},
        (*_BAD_BETAS, *_BAD_EPS),
    ),
    _row(
        "Adamax",
        optim.adamax,
        ("adamax",),
        _BETAS,
        {"lr": 0.02},
        (*_BAD_BETAS, *_BAD_EPS),
        squares=False,
    ),
    _row(
        "Lion",
        optim.lion,
        ("lion",),
        ({"lr": 0.01, "weight_decay": 0.1}, {"betas": (0.5, 0.9)}, {"betas": (0.0, 0.5)}),
        {"lr": 0.001},
        _BAD_BETAS,
        squares=False,
    ),
    _RMSPROP,
    _ADAGRAD,
    _row(
        "Adadelta",
        optim.adadelta,
        ("adadelta",),
        ({"lr": 0.5, "rho": 0.95, "weight_decay": 0.05}, {"rho": 0.5, "eps": 1e-3}),
        {"lr": 0.3},
        (({"rho": 1.0}, "0.0 <= rho < 1.0, got 1.0"), *_BAD_EPS),
    ),
)
