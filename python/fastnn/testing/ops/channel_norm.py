"""Norms over channels: their bounds and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.op import Bad, Bench, Op, Shapes, map_cost, normal, zeros
from fastnn.testing.ops.linear import FUSED
from fastnn.testing.ops.norm import norm, not_floating
from fastnn.testing.reference import norm as reference

__all__ = ["ROWS"]


# ---- bounds --------------------------------------------------------------------------------------


def _channels(s: Sample, statistics: tuple[Array, Array], mean: Any) -> tuple[Array, Grads]:
    x, w, b = np.asarray(s.inputs[0]), s.inputs[-2], s.inputs[-1]
    per_channel = reference.channels(w, x), reference.channels(b, x)
    axes = (0, *range(2, x.ndim))
    y, dx, dw, db = norm(s, statistics, per_channel, mean, lambda v: v.sum(axis=axes))
    none = (None,) * (len(s.inputs) - 3)
    return y, (dx, *none, None if w is None else dw, None if b is None else db)


def batch_norm(s: Sample) -> tuple[Array, Grads]:
    """Over all axes but the channels'; dx is one term where the statistics are given."""
    x, mean, var = (None if v is None else np.asarray(v) for v in s.inputs[:3])
    assert x is not None
    training = s.params.get("training", False)
    axes = (0, *range(2, x.ndim))
    statistics = reference.batch_statistics(
        x, mean, var, training, s.params.get("eps", reference.EPS)
    )
    return _channels(
        s, statistics, lambda v: v.mean(axis=axes, keepdims=True) if training else np.zeros(())
    )


def _groups(s: Sample, num_groups: int) -> tuple[Array, Grads]:
    x = np.asarray(s.inputs[0])

    def wide(v: Array) -> Array:  # per group, as large as x
        return np.broadcast_to(v, reference.grouped(x, num_groups).shape).reshape(x.shape)

    xhat, rstd = reference.statistics(
        reference.grouped(x, num_groups), (2,), s.params.get("eps", reference.EPS)
    )
    return _channels(
        s,
        (wide(xhat), wide(rstd)),
        lambda v: wide(reference.grouped(v, num_groups).mean(axis=2, keepdims=True)),
    )


def group_norm(s: Sample) -> tuple[Array, Grads]:
    """Over the channels of a group."""
    return _groups(s, s.params["num_groups"])


def instance_norm(s: Sample) -> tuple[Array, Grads]:
    """A group per channel, or batch norm by given statistics."""
    return _groups(s, s.inputs[0].shape[1]) if _own(s) else batch_norm(s)  # type: ignore[union-attr]


def _own(s: Sample) -> bool:
    return bool(s.params.get("use_input_stats", True))


# ---- shapes and inputs ---------------------------------------------------------------------------

_LENGTHS = (*range(1, 35), 63, 64, 65, 127, 128, 129, 511, 512, 513, 1025)


def with_running(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    x, mean, var, w, b = normal()(rng, shapes)
    return x, mean, None if var is None else np.exp(var), w, b


def _given(shape: tuple[int, ...]) -> Shapes:
    """Shapes with running statistics, weight and bias."""
    return (shape, *(((shape[1],)) for _ in range(4)))


def _own_statistics(shape: tuple[int, ...], w: bool = True, b: bool = True) -> Shapes:
    channels = (shape[1],)
    return (shape, None, None, channels if w else None, channels if b else None)


# ---- rows ----------------------------------------------------------------------------------------

_BATCH_NORM = Op(
    name="fastnn.functional.batch_norm",
    family="norm",
    layout="nhwc",
    arrays=("running_mean", "running_var", "weight", "bias"),
    reference=(reference.batch_norm, reference.batch_norm_vjp),
    covers=(
        "plane_norm_fwd",
        "plane_norm_bwd",
        "column_norm_fwd",
        "column_norm_bwd",
        "channel_norm_bwd_params",
        "nn.BatchNorm1d",
        "nn.BatchNorm2d",
    ),
    params=({"training": True}, {"training": True, "eps": 0.5}),
    shapes=(
        _own_statistics((5, 7)),
        _own_statistics((5, 7), False, False),
        _own_statistics((700, 70), w=False),
        _own_statistics((4, 3, 5), b=False),
        _own_statistics((2, 3, 4, 5)),
        _own_statistics((40, 2, 30, 41)),
        _own_statistics((1, 3, 2)),
        _own_statistics((2, 0, 3)),
    ),
    tail=lambda n: (_given((3, n + 1)), {"training": False}),
    pairs=(
        *((_own_statistics((3, 2, n)), {"training": True}) for n in _LENGTHS),
        *((_own_statistics((5, n)), {"training": True}) for n in _LENGTHS),
        *((_given(shape), {}) for shape in ((5, 7), (1, 70), (0, 7), (2, 3, 0), (2, 3, 4, 5))),
        *((_given((9, 80, *size)), {"activation": a}) for a in FUSED for size in ((), (3,))),
        *(
            (_own_statistics(shape), {"training": True, "activation": a})
            for a in FUSED
            for shape in ((19, 80), (3, 4, 30, 20))
        ),
        *(
            (_own_statistics(shape), {"training": True, "activation": a, "dropout_p": 0.3})
            for a in (None, "gelu")
            for shape in ((19, 280), (3, 4, 7, 20))
        ),
    ),
    make=with_running,
    bound=batch_norm,
    bench=Bench((_own_statistics((256, 1024)), _own_statistics((64, 64, 32, 32))), map_cost(8)),
    bad=(
        Bad(
            lambda: F.batch_norm(zeros(3), training=True),
            ValueError,
            "batch_norm: expected input of shape (n, channels, ...), got (3,)",
        ),
        Bad(
            lambda: F.batch_norm(zeros(1, 3), training=True),
            ValueError,
            "batch_norm: expected more than 1 value per channel when training, got input (1, 3)",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3)),
            ValueError,
            "batch_norm: expected running_mean and running_var when training is False, got None",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3), zeros(3)),
            ValueError,
            "batch_norm: expected running_mean and running_var together, got one of them",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3), zeros(4), zeros(3)),
            ValueError,
            "batch_norm: expected running_mean of shape (3,) to fit input (2, 3), got (4,)",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3), zeros(3), zeros(3), training=True),
            TypeError,
            "batch_norm: expected running_mean to be a Tensor, since training updates it, "
            "got ndarray",
        ),
        Bad(
            lambda: F.batch_norm(
                zeros(2, 3), fastnn.zeros(3), fastnn.ones(3), training=True, momentum=None
            ),
            ValueError,
            "batch_norm: expected num_batches_tracked for momentum None, got None",
        ),
        Bad(
            lambda: F.batch_norm(
                zeros(2, 3), fastnn.zeros(3), fastnn.ones(3), training=True, momentum=1.5
            ),
            ValueError,
            "batch_norm: expected 0 <= momentum <= 1, got 1.5",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3), None, None, zeros(2), training=True),
            ValueError,
            "batch_norm: expected weight of shape (3,) to fit input (2, 3), got (2,)",
        ),
        Bad(
            lambda: F.batch_norm(zeros(2, 3), training=True, eps=-1.0),
            ValueError,
            "batch_norm: expected eps >= 0, got -1",
        ),
        not_floating(F.batch_norm, "batch_norm", None, None, None, None, True),
    ),
)

_GROUP_NORM = Op(
    name="fastnn.functional.group_norm",
    family="norm",
    layout="nhwc",
    arrays=("weight", "bias"),
    reference=(reference.group_norm, reference.group_norm_vjp),
    covers=("plane_norm_fwd", "plane_norm_bwd", "channel_norm_bwd_params", "nn.GroupNorm"),
    params=({"num_groups": 2}, {"num_groups": 2, "eps": 0.5}),
    shapes=(
        ((5, 6), (6,), (6,)),
        ((5, 6), None, None),
        ((3, 4, 5), (4,), None),
        ((2, 6, 4, 5), None, (6,)),
        ((0, 4, 5), (4,), (4,)),
        ((20, 4, 30, 41), (4,), (4,)),
    ),
    tail=lambda n: (((3, n + 1), (n + 1,), (n + 1,)), {"num_groups": 1}),
    pairs=(
        *((((2, 4, n), (4,), (4,)), {"num_groups": 2}) for n in _LENGTHS),
        *((((3, 6, 5), (6,), (6,)), {"num_groups": g}) for g in (1, 3, 6)),
        *((((3, 6, 70), (6,), (6,)), {"num_groups": 2, "activation": a}) for a in FUSED),
        (((3, 6, 70), (6,), (6,)), {"num_groups": 2, "activation": "relu", "dropout_p": 0.3}),
    ),
    make=normal(),
    bound=group_norm,
    bench=Bench((((64, 64, 32, 32), (64,), (64,)),), map_cost(8)),
    bad=(
        Bad(
            lambda: F.group_norm(zeros(2, 4), 3),
            ValueError,
            "group_norm: expected num_groups that divides the 4 channels of input (2, 4), got 3",
        ),
        Bad(
            lambda: F.group_norm(zeros(2, 4), 0),
            ValueError,
            "group_norm: expected num_groups >= 1, got 0",
        ),
        Bad(
            lambda: F.group_norm(zeros(4), 2),
            ValueError,
            "group_norm: expected input of shape (n, channels, ...), got (4,)",
        ),
        Bad(
            lambda: F.group_norm(zeros(2, 4), 2, zeros(2)),
            ValueError,
            "group_norm: expected weight of shape (4,) to fit input (2, 4), got (2,)",
        ),
        not_floating(F.group_norm, "group_norm", 3),
    ),
)

_INSTANCE_NORM = Op(
    name="fastnn.functional.instance_norm",
    family="norm",
    layout="nhwc",
    arrays=("running_mean", "running_var", "weight", "bias"),
    reference=(reference.instance_norm, reference.instance_norm_vjp),
    covers=(
        "plane_norm_fwd",
        "plane_norm_bwd",
        "channel_norm_bwd_params",
        "nn.InstanceNorm1d",
        "nn.InstanceNorm2d",
    ),
    params=({}, {"eps": 0.5}),
    shapes=(
        _own_statistics((3, 4, 5)),
        _own_statistics((3, 4, 5), False, False),
        _own_statistics((2, 3, 4, 5), b=False),
        _own_statistics((0, 3, 5)),
        _own_statistics((40, 3, 30, 41)),
    ),
    tail=None,
    pairs=(
        (_own_statistics((3, 4, 70)), {"activation": "gelu"}),
        (_own_statistics((3, 4, 70)), {"activation": "gelu", "dropout_p": 0.3}),
        (_given((3, 4, 5)), {"use_input_stats": False}),
        (_given((3, 4, 1)), {"use_input_stats": False}),
    ),
    make=with_running,
    bound=instance_norm,
    bench=Bench((_own_statistics((64, 64, 32, 32)),), map_cost(8)),
    bad=(
        Bad(
            lambda: F.instance_norm(zeros(2, 3)),
            ValueError,
            "instance_norm: expected input of shape (n, channels, size, ...), got (2, 3)",
        ),
        Bad(
            lambda: F.instance_norm(zeros(2, 3, 1)),
            ValueError,
            "instance_norm: expected more than 1 element per channel, got input (2, 3, 1)",
        ),
        Bad(
            lambda: F.instance_norm(zeros(2, 3, 2), use_input_stats=False),
            ValueError,
            "instance_norm: expected running_mean and running_var when use_input_stats is False, "
            "got None",
        ),
        not_floating(F.instance_norm, "instance_norm"),
    ),
)

ROWS: tuple[Op, ...] = (_BATCH_NORM, _GROUP_NORM, _INSTANCE_NORM)
