"""Optimizers and schedules with torch's names and defaults; a step is one launch per group."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from fastnn.optim import rates
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.adam_variants import Adamax, Lion, NAdam, RAdam
from fastnn.optim.adaptive import Adadelta, Adagrad, RMSprop
from fastnn.optim.constraint import MaxNorm, ProximalL1
from fastnn.optim.groups import param_groups_weight_decay, switch
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.sgd import SGD

if TYPE_CHECKING:
    from fastnn.optim import lr_scheduler

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "MaxNorm",
    "NAdam",
    "Optimizer",
    "ProximalL1",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
    "param_groups_weight_decay",
    "rates",
    "switch",
]


def __getattr__(name: str) -> Any:
    """Schedules come on first use: they would be a sixth of what ``import fastnn`` costs."""
    if name != "lr_scheduler":
        raise AttributeError(f"module 'fastnn.optim' has no attribute {name!r}")
    return _import_module("fastnn.optim.lr_scheduler")  # which becomes an attribute
