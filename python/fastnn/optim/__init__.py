"""Optimizers and schedules with torch's names and defaults; a step is one launch per group."""

from fastnn.optim import lr_scheduler, rates
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.adam_variants import Adamax, Lion, NAdam, RAdam
from fastnn.optim.adaptive import Adadelta, Adagrad, RMSprop
from fastnn.optim.constraint import MaxNorm, ProximalL1
from fastnn.optim.groups import param_groups_weight_decay, switch
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.sgd import SGD

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
