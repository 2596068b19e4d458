"""Modules: layers with parameters, under torch's names, defaults and state_dict keys."""

from fastnn.nn import init, utils
from fastnn.nn.activation import (
    ELU,
    GELU,
    SELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Swish,
    Tanh,
)
from fastnn.nn.container import Sequential
from fastnn.nn.dropout import (
    AlphaDropout,
    DropConnect,
    Dropout,
    Dropout1d,
    Dropout2d,
    GaussianDropout,
    PoissonDropout,
    StochasticDepth,
    mc_predict,
)
from fastnn.nn.embedding import Embedding
from fastnn.nn.linear import Linear
from fastnn.nn.loss import CrossEntropyLoss
from fastnn.nn.module import Module, parameter
from fastnn.nn.norm import LayerNorm
from fastnn.nn.pool import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    FractionalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
)

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "CrossEntropyLoss",
    "DropConnect",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Embedding",
    "FractionalMaxPool2d",
    "GaussianDropout",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "PoissonDropout",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StochasticDepth",
    "Swish",
    "Tanh",
    "init",
    "mc_predict",
    "parameter",
    "utils",
]
