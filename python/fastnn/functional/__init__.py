"""Differentiable ops on Tensors and arrays, with the names and argument order of torch's.

Each family is a file with the forward rule and its vjp side by side. Every op takes Tensors or
anything array-like and returns Tensors; what torch does not have (``activation=``) is keyword-only.
"""

from fastnn.functional.activation import (
    elu,
    gelu,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    swish,
    tanh,
)
from fastnn.functional.dropout import dropout
from fastnn.functional.linear import linear
from fastnn.functional.loss import cross_entropy
from fastnn.functional.norm import layer_norm
from fastnn.functional.penalty import elastic_net_penalty, l1_penalty, l2_penalty
from fastnn.functional.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "cross_entropy",
    "dropout",
    "elastic_net_penalty",
    "elu",
    "gelu",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]
