"""Learning-rate schedules, with torch's names, arguments and defaults.

Each is a pure function of the step count, so nothing drifts and every step can be looked up: by the
Trainer, whose recorded steps read the rates of an epoch from a table, and by :func:`plot`. Those
that go up and down move the momentum the other way, as torch's do. What a step is, a batch or an
epoch, is up to who calls ``step()``.
"""

from fastnn.optim.lr_scheduler.base import LambdaLR, LRScheduler
from fastnn.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR, WarmupLR
from fastnn.optim.lr_scheduler.cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from fastnn.optim.lr_scheduler.decay import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    InverseSqrtLR,
    InverseTimeLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from fastnn.optim.lr_scheduler.plateau import ReduceLROnPlateau
from fastnn.optim.lr_scheduler.tools import plot, scale_lr

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "InverseSqrtLR",
    "InverseTimeLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
    "plot",
    "scale_lr",
]
