"""Differentiable ops on Tensors and arrays, with the names and argument order of torch's.

Each family is a file with the forward rule and its vjp side by side. Every op takes Tensors or
anything array-like and returns Tensors; what torch does not have (``activation=``) is keyword-only.
"""

from fastnn.functional.activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    swish,
    tanh,
)
from fastnn.functional.arithmetic import add
from fastnn.functional.channel_norm import batch_norm, group_norm, instance_norm
from fastnn.functional.conv import conv1d, conv2d, conv_transpose2d
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
from fastnn.functional.linear import bmm, linear, matmul
from fastnn.functional.loss import cross_entropy, nll_loss
from fastnn.functional.margin import (
    multi_margin_loss,
    multiclass_hinge_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
)
from fastnn.functional.norm import layer_norm, rms_norm
from fastnn.functional.parametric import hardtanh, maxout, prelu
from fastnn.functional.penalty import elastic_net_penalty, l1_penalty, l2_penalty
from fastnn.functional.pointwise_loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
from fastnn.functional.pool import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from fastnn.functional.pool_spans import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    fractional_max_pool2d,
)
from fastnn.functional.recurrent import gru, layer_norm_lstm, lstm, rnn
from fastnn.functional.shape import cat, pad, split, stack, unbind
from fastnn.functional.softmax import log_softmax, logsumexp, softmax
from fastnn.functional.stacked import stacked_linear

__all__ = [
    "accuracy",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "add",
    "alpha_dropout",
    "argmax",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "bmm",
    "cat",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
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
    "group_norm",
    "gru",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_loss",
    "huber_loss",
    "instance_norm",
    "kl_div",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "layer_norm_lstm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "lstm",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "maxout",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "poisson_dropout",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rnn",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softplus",
    "split",
    "stack",
    "stacked_linear",
    "stochastic_depth",
    "swish",
    "tanh",
    "unbind",
]
