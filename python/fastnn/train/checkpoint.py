"""Checkpoints of models and of training, to continue it with the same bits.

A file holds the model's tensors under their own names (so torch can read them), the optimizer's
state as ``optimizer:<parameter>:<slot>``, that of the scheduler and the callbacks as
``companion:<who>:<name>``, arrays that were given to keep as ``extra:<name>``, and JSON texts. All
of it is validated before anything is written to a model.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import nn, random
from fastnn._checks import checked
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor
from fastnn.train import sizes, spec
from fastnn.train.files import EXTRA, CheckpointError, read_tensors, write_tensors
from fastnn.train.position import Position

__all__ = [
    "companions",
    "load_model",
    "load_training",
    "read_model",
    "save_model",
    "save_training",
    "write_model",
]

_PREFIX = "optimizer:"
_COMPANION = "companion:"
_OTHERS = (_PREFIX, _COMPANION, EXTRA)  # no tensors of the model
_KINDS = ("scheduler", "scaler")  # of a training, which has one of each or none
States = dict[str, dict[str, Any]]


@checked
def save_model(path: str, model: nn.Module, extra: Mapping[str, Any] | None = None) -> None:
    """Write a model: its layers as data, and its tensors with a checksum each.

    Args:
        path: The file; replaced as a whole.
        model: Layers, blocks and containers of ``fastnn.nn``. A model with custom layers or hooks
            is saved as tensors only: :func:`load_model` cannot build it, ``load_state_dict`` can
            fill one.
        extra: JSON-like data to keep with it; float64 arrays by name are kept as arrays.

    Example:
        >>> import os, tempfile, fastnn as fn
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> fn.train.save_model(path, fn.nn.Sequential(fn.nn.Linear(2, 1), fn.nn.ReLU()))
        >>> len(fn.train.load_model(path))
        2
    """
    write_model(path, model, model.state_dict(), extra)


def write_model(
    path: str, model: nn.Module, state: Mapping[str, Any], extra: Mapping[str, Any] | None
) -> None:
    """Write a model with other tensors than it has now."""
    texts, arrays = _keep(model, extra)
    write_tensors(path, {**state, **arrays}, texts)


def load_model(path: str) -> nn.Module:
    """The model in a file that :func:`save_model` or ``Trainer.save`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or its layers are not fastnn's own. The sizes that it
            claims are compared with its tensors before anything is allocated.

    Example:
        See :func:`save_model`.
    """
    return read_model(path)[0]


def read_model(path: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model, and what was kept with it."""
    tensors, texts = read_tensors(path)
    state = {k: v for k, v in tensors.items() if not k.startswith(_OTHERS)}
    description = _parse(path, texts, "model")
    if description is None:
        raise CheckpointError(
            f"{path}: expected layers of fastnn.nn only, got a model of custom layers"
        )
    try:
        spec.check(description)
        expected = sizes.num_parameters(description)
        found = sum(math.prod(v.shape) for v in state.values())
        if expected != found:
            raise ValueError(f"model: expected {expected} parameters, got {found} in the tensors")
        model = spec.build(description)
        model.load_state_dict(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model, _extra(path, texts, tensors)


def companions(parts: tuple[Any, Any], callbacks: Sequence[Any]) -> States:
    """The states of what trains along with the optimizer, by place and class.

    ``parts`` are the scheduler and the scaler of the loss, or None."""
    named = {f"callback {i} {type(c).__name__}": c for i, c in enumerate(callbacks)}
    for kind, part in zip(_KINDS, parts, strict=True):
        if part is not None:
            named[_name(kind, part)] = part
    return {name: state for name, part in named.items() if (state := part.state_dict())}


def _name(kind: str, part: Any) -> str:
    return f"{kind} {type(part).__name__}"


def save_training(
    path: str,
    model: nn.Module,
    optimizer: Optimizer,
    position: Position,
    extra: Mapping[str, Any] | None = None,
    states: States | None = None,
) -> None:
    """Write all that the next step depends on; states are those of :func:`companions`."""
    state = optimizer.state_dict()
    slots = {
        f"{_PREFIX}{i}:{name}": value
        for i, values in state["state"].items()
        for name, value in values.items()
        if name in optimizer.slots
    }
    counts = [
        {k: v for k, v in state["state"].get(i, {}).items() if k in optimizer.scalars}
        for i in range(sum(len(group["params"]) for group in optimizer.param_groups))
    ]
    arrays = {
        f"{_COMPANION}{who}:{name}": value
        for who, values in (states or {}).items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    training = {
        "companions": {
            who: {k: v for k, v in values.items() if not isinstance(v, Tensor)}
            for who, values in (states or {}).items()
        },
        "position": dataclasses.asdict(position),
        "generators": random.get_state(),
        "optimizer": type(optimizer).__name__,
        "param_groups": state["param_groups"],
        "counts": counts,
    }
    texts, kept = _keep(model, extra)
    texts["training"] = json.dumps(training)
    write_tensors(path, {**model.state_dict(), **slots, **arrays, **kept}, texts)


def load_training(
    path: str, model: nn.Module, optimizer: Optimizer, scheduler: Any = None, scaler: Any = None
) -> tuple[Position, States, dict[str, Any]]:
    """Continue from what :func:`save_training` wrote; nothing is changed if it raises.

    Returns the position, the states of the callbacks, and what was kept with it.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or of another model or optimizer.
    """
    tensors, texts = read_tensors(path)
    if "training" not in texts:
        raise CheckpointError(
            f"{path}: expected a checkpoint of a training, got one of a model alone"
        )
    training = _parse(path, texts, "training")
    extra = _extra(path, texts, tensors)
    state = {k: v for k, v in tensors.items() if not k.startswith(_OTHERS)}
    slots = {k: v for k, v in tensors.items() if k.startswith(_PREFIX)}
    try:
        _check_model(model, state)
        position = Position.of(training["position"])
        generators = _generators(training["generators"])
        states = _states(training.get("companions", {}), tensors)
        parts = dict(zip(_KINDS, (scheduler, scaler), strict=True))
        taken = {kind: _take(states, kind, part) for kind, part in parts.items()}
        optimizer_state = _optimizer_state(optimizer, training, slots)
        for kind in reversed(_KINDS):  # a scheduler's check is the last
            if parts[kind] is not None:
                parts[kind].load_state_dict(taken[kind])
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: expected the state of a training, got {error!r:.80}"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    model.load_state_dict(state)
    optimizer.load_state_dict(optimizer_state)
    random.set_state(generators)
    return position, states, extra


def _keep(
    model: nn.Module, extra: Mapping[str, Any] | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """What is kept beside the tensors: texts, and the arrays in extra."""
    rest, arrays = dict(extra or {}), {}
    for name in [k for k, v in rest.items() if getattr(v, "dtype", None) == np.float64]:
        arrays[f"{EXTRA}{name}"] = rest.pop(name)
    return {"model": json.dumps(spec.describe(model)), "extra": json.dumps(rest)}, arrays


def _parse(path: str, texts: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(texts[name])
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: expected JSON in the metadata {name!r}") from None


def _extra(path: str, texts: Mapping[str, str], tensors: Mapping[str, Any]) -> dict[str, Any]:
    extra = _parse(path, texts, "extra")
    if not isinstance(extra, dict):
        raise CheckpointError(f"{path}: expected names and values in the metadata 'extra'")
    return extra | {k.removeprefix(EXTRA): v for k, v in tensors.items() if k.startswith(EXTRA)}


def _check_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            f"model: expected the tensors of {type(model).__name__}, got missing {missing[:5]} and "
            f"unknown {[k[:80] for k in unknown[:5]]}"
        )
    for name in own:
        value = state[name]
        if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            raise ValueError(
                f"model: expected {name!r} of shape {own[name].shape} and dtype {own[name].dtype}, "
                f"got {value.shape} and {value.dtype}"
            )


def _states(texts: Any, tensors: Mapping[str, Tensor]) -> States:
    """What :func:`companions` returned, Tensors and all."""
    if not isinstance(texts, dict) or not all(isinstance(v, dict) for v in texts.values()):
        raise ValueError("companions: expected names and states")
    states = {who: dict(values) for who, values in texts.items()}
    for key, value in tensors.items():
        if key.startswith(_COMPANION):
            who, _, name = key.removeprefix(_COMPANION).partition(":")
            states[who][name] = value
    return states


def _take(states: States, kind: str, part: Any) -> dict[str, Any]:
    """Take the state of the scheduler or scaler out; it has to be of the one there is, or none."""
    want = [] if part is None else [_name(kind, part)]
    have = [name for name in states if name.startswith(f"{kind} ")]
    if want != have:
        names = [name[0].removeprefix(f"{kind} ")[:80] if name else "none" for name in (want, have)]
        raise ValueError(f"{kind}: expected {names[0]}, got {names[1]}")
    return states.pop(want[0]) if want else {}


def _generators(state: dict[str, Any]) -> dict[str, list[int]]:
    result = {}
    for name in random.get_state():
        seed, offset = state[name]
        if type(seed) is not int or type(offset) is not int:
            raise ValueError(f"generators: expected whole numbers for {name}")
        if not (0 <= seed < 1 << 64 and 0 <= offset < 1 << 56):
            raise ValueError(
                f"generators: expected {name} within 64 and 56 bits, got {[seed, offset]}"
            )
        result[name] = [seed, offset]
    return result


def _optimizer_state(
    optimizer: Optimizer, training: dict[str, Any], slots: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What Optimizer.load_state_dict takes, each value checked against the optimizer there is."""
    name = type(optimizer).__name__
    if training["optimizer"] != name:
        raise ValueError(f"optimizer: expected {name}, got {str(training['optimizer'])[:80]!r}")
    own = optimizer.state_dict()
    groups = []
    if len(training["param_groups"]) != len(own["param_groups"]):
        raise ValueError(f"optimizer: expected {len(own['param_groups'])} parameter groups")
    for have, saved in zip(own["param_groups"], training["param_groups"], strict=True):
        if saved.keys() != have.keys() or saved["params"] != have["params"]:
            raise ValueError("optimizer: expected groups with the same options and parameters")
        group = {
            k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in saved.items()
        }
        if any(not _same_kind(have[k], group[k]) for k in have):
            raise ValueError("optimizer: expected options of the same kinds")
        optimizer._check(group)
        groups.append(group)
    params = [p for g in optimizer.param_groups for p in g["params"]]
    state: dict[int, dict[str, Any]] = _counts(optimizer, training["counts"], len(params))
    for key, value in slots.items():
        _, index, slot = key.split(":", 2)
        i = int(index) if index.isascii() and index.isdigit() and len(index) < 9 else len(params)
        if i >= len(params) or slot not in optimizer.slots:
            raise ValueError(f"optimizer: expected state of its parameters, got {key[:80]!r}")
        if value.shape != params[i].shape or value.dtype != "float32":
            raise ValueError(
                f"optimizer: expected {key!r} of shape {params[i].shape}, got {value.shape}"
            )
        state.setdefault(i, {})[slot] = value
    return {"param_groups": groups, "state": state}


def _counts(optimizer: Optimizer, counts: Any, params: int) -> dict[int, dict[str, Any]]:
    """What the optimizer counts for each parameter that has made a step."""
    state = {}
    if not isinstance(counts, list) or len(counts) != params:
        raise ValueError(f"optimizer: expected counts of {params} parameters")
    for i, values in enumerate(counts):
        if values and values.keys() != set(optimizer.scalars):
            raise ValueError(f"optimizer: expected {optimizer.scalars} of parameter {i}")
        step, product = values.get("step", 0), values.get("mu_product", 1.0)
        if type(step) is not int or not 0 <= step < 1 << 62:
            raise ValueError("optimizer: expected a step count >= 0 for each parameter")
        if type(product) is not float or not 0 <= product <= 1:
            raise ValueError("optimizer: expected 0 <= mu_product <= 1 for each parameter")
        if values:
            state[i] = dict(values)
    return state


def _same_kind(have: Any, got: Any) -> bool:
    if isinstance(have, tuple):
        return isinstance(got, tuple) and len(have) == len(got) and all(map(_same_kind, have, got))
    if isinstance(have, (int, float)) and not isinstance(have, bool):
        return isinstance(got, (int, float)) and not isinstance(got, bool)
    return type(have) is type(got)
