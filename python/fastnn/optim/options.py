"""Options of optimizers: their ranges, and their names in the kernels' update rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastnn._checks import check_number

__all__ = ["FORMS", "check_range", "has_momentum", "kernel_options", "momentum_of", "set_momentum"]

FORMS = "ABCD"  # of SGD's momentum

# The least value of each option, and what it has to stay below.
_RANGES: dict[str, tuple[float, float]] = {
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "eps": (0.0, math.inf),
    "momentum": (0.0, math.inf),
    "lr_decay": (0.0, math.inf),
    "momentum_decay": (0.0, math.inf),
    "initial_accumulator_value": (0.0, math.inf),
    "alpha": (0.0, 1.0),
    "rho": (0.0, 1.0),
}
_CHOICES: dict[str, tuple[str, ...]] = {"eps_mode": ("outside", "inside"), "form": tuple(FORMS)}

# Options by the names that formulas/optim.h has for them; lr and momentum live in memory.
_KERNEL_OPTIONS: dict[str, Callable[[Any], dict[str, float]]] = {
    "betas": lambda v: {"beta2": float(v[1])},
    "alpha": lambda v: {"beta2": float(v)},
    "rho": lambda v: {"beta2": float(v)},
    "eps": lambda v: {"eps": float(v)},
    "eps_mode": lambda v: {"eps_inside": float(v == "inside")},
    "weight_decay": lambda v: {"weight_decay": float(v)},
    "decoupled_weight_decay": lambda v: {"decoupled": float(v)},
    "maximize": lambda v: {"maximize": float(v)},
    "dampening": lambda v: {"dampening": float(v)},
    "nesterov": lambda v: {"nesterov": float(v)},
    "form": lambda v: {"form": float(FORMS.index(v))},
    "bias_correction": lambda v: {"bias_correction": float(v)},
    "lr_decay": lambda v: {"lr_decay": float(v)},
    "momentum_decay": lambda v: {"decay_base": 0.96 ** float(v)},
}


def kernel_options(group: dict[str, Any]) -> dict[str, float]:
    """A group's options as the update rules take them."""
    options: dict[str, float] = {}
    for name, value in group.items():
        if name in _KERNEL_OPTIONS:
            options.update(_KERNEL_OPTIONS[name](value))
    return options


def has_momentum(group: dict[str, Any]) -> bool:
    """Whether a group has a momentum, or a decay of the first moment in its place."""
    return "betas" in group or "momentum" in group


def momentum_of(group: dict[str, Any]) -> float:
    """The momentum of a group, or its first beta; 0 if it has neither."""
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))


def set_momentum(group: dict[str, Any], value: float) -> None:
    """Set the momentum of a group, or its first beta."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def check_range(optimizer: str, option: str, value: Any) -> None:
    """Refuse a value that is out of the option's range."""
    if option == "betas":
        if not isinstance(value, Sequence) or len(value) != 2:
            raise ValueError(f"{optimizer}: expected betas to be two numbers, got {value!r}")
        for i, beta in enumerate(value):
            _check_number(optimizer, f"betas[{i}]", beta, 0.0, 1.0)
    elif option in _RANGES:
        _check_number(optimizer, option, value, *_RANGES[option])
    elif option in _CHOICES and value not in _CHOICES[option]:
        choices = ", ".join(map(repr, _CHOICES[option]))
        raise ValueError(f"{optimizer}: expected {option} to be one of {choices}, got {value!r}")


def _check_number(optimizer: str, option: str, value: Any, low: float, high: float) -> None:
    check_number(optimizer, option, value)
    if not low <= float(value) < high:
        finite = high < math.inf
        bound = f"{low} <= {option} < {high}" if finite else f"a finite {option} >= {low}"
        raise ValueError(f"{optimizer}: expected {bound}, got {value}")
