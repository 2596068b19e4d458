"""Differentiable ops on Tensors and arrays, with the names and argument order of torch's.

Each family is a file with the forward rule and its vjp side by side. Every op takes Tensors or
anything array-like and returns Tensors; what torch does not have (``activation=``) is keyword-only.
"""

from fastnn.functional.activation import (
    add,
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
from fastnn.functional.dropout import (
    alpha_dropout,
    drop_connect,
    dropout,
    dropout1d,
    dropout2d,
    gaussian_dropout,
    poisson_dropout,
    stochastic_depth,
)
from fastnn.functional.embedding import accuracy, argmax, embedding, one_hot
from fastnn.functional.linear import linear
from fastnn.functional.loss import cross_entropy
from fastnn.functional.norm import layer_norm
from fastnn.functional.penalty import elastic_net_penalty, l1_penalty, l2_penalty
from fastnn.functional.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    fractional_max_pool2d,
    max_pool1d,
    max_pool2d,
)
from fastnn.functional.shape import cat, pad, split
from fastnn.functional.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "accuracy",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "alpha_dropout",
    "argmax",
    "avg_pool1d",
    "avg_pool2d",
    "cat",
    "cross_entropy",
    "drop_connect",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elastic_net_penalty",
    "elu",
    "embedding",
    "fractional_max_pool2d",
    "gaussian_dropout",
    "gelu",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "max_pool1d",
    "max_pool2d",
    "one_hot",
    "pad",
    "poisson_dropout",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "split",
    "stochastic_depth",
    "swish",
    "tanh",
]
