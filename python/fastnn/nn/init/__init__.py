"""Initialisers, with torch's names. All draw from the 'init' stream, so a seed fixes them."""

from fastnn.nn.init.fill import constant_, normal_, ones_, uniform_, zeros_
from fastnn.nn.init.model import auto_, lsuv_
from fastnn.nn.init.scaled import (
    calculate_fan_in_and_fan_out,
    calculate_gain,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    orthogonal_,
    xavier_normal_,
    xavier_uniform_,
)

__all__ = [
    "auto_",
    "calculate_fan_in_and_fan_out",
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "lsuv_",
    "normal_",
    "ones_",
    "orthogonal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
