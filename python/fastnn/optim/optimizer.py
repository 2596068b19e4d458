"""Optimizer: parameter groups, their state, and what all optimizers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastnn import _core
from fastnn.capture import note_optimizer
from fastnn.tensor import Tensor

__all__ = ["Optimizer"]


class Optimizer:
    """Base of the optimizers.

    Step count and learning rate live in memory that the kernels read, so that a captured step
    follows changes of ``param_groups[i]["lr"]``.

    Args:
        params: Tensors, or dictionaries with ``"params"`` and options of their own.
        defaults: Options of groups that do not give their own.
    """

    slots: tuple[str, ...] = ()  # names of the float32 state kept per parameter

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]
    ) -> None:
        name = type(self).__name__
        items: list[Any] = list(params)
        if not items:
            raise ValueError(f"{name}: expected at least one parameter, got none")
        groups: list[dict[str, Any]] = items if isinstance(items[0], dict) else [{"params": items}]
        self.param_groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for group in groups:
            members = group["params"]
            full = {
                **defaults,
                **group,
                "params": [members] if isinstance(members, Tensor) else list(members),
            }
            for p in full["params"]:
                if not isinstance(p, Tensor) or not p.requires_grad:
                    raise ValueError(
                        f"{name}: expected Tensors that require a gradient, got {type(p).__name__}"
                    )
                if id(p) in seen:
                    raise ValueError(
                        f"{name}: expected each parameter once, got one of shape {p.shape} twice"
                    )
                seen.add(id(p))
            self._check(full)
            self.param_groups.append(full)
        self._states = [_core.make_optim_state(g["lr"], 0) for g in self.param_groups]
        self._slots: dict[int, dict[str, Any]] = {}

    def _check(self, group: dict[str, Any]) -> None:
        _check_range(type(self).__name__, "lr", group["lr"], 0.0)
        _check_range(type(self).__name__, "weight_decay", group["weight_decay"], 0.0)

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises:
            ValueError: If a gradient is NaN or infinite, or overflows the second moment; nothing is
                changed then, and the message says where.
        """
        self.sync()
        if len(self.param_groups) > 1:  # a bad gradient in the last group must not spare the first
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                limit = 0.0 if "exp_avg_sq" in self.slots else -1.0
                grads = [p.grad for p in params]
                _core.check_gradients(type(self).__name__.lower(), params, grads, limit)
        for group, state in zip(self.param_groups, self._states, strict=True):
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                if params[0].device != state.device:
                    state = self._move_state(group, params[0].device)
                self._update(group, params, [p.grad for p in params], state)

    def _move_state(self, group: dict[str, Any], device: str) -> Any:
        i = next(i for i, g in enumerate(self.param_groups) if g is group)
        self._states[i] = _core.to_device(self._states[i], device)
        return self._states[i]

    def _update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Any], state: Any
    ) -> None:
        raise NotImplementedError

    def _slot(self, name: str, params: list[Tensor]) -> list[Any]:
        """The float32 state of each parameter, zeros at first."""
        arrays = []
        for p in params:
            slots = self._slots.setdefault(id(p), {})
            if name not in slots:
                _core.refuse_while_recording("the first step of an optimizer")
                slots[name] = _core.to_device(_core.full(p.shape, 0.0, "float32", "cpu"), p.device)
            arrays.append(slots[name])
        return arrays

    def prepare(self) -> None:
        """Make the state of every parameter now, before a step is captured."""
        for group in self.param_groups:
            for name in self.slots:
                self._slot(name, group["params"])

    def sync(self) -> None:
        """Write the groups' learning rates to where the kernels read them.

        :meth:`step` and captured functions do it by themselves.
        """
        if _core.is_recording():
            note_optimizer(self)
        for group, state in zip(self.param_groups, self._states, strict=True):
            _core.set_optim_lr(state, float(group["lr"]))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: Accepted for torch's sake; gradients are always set to None.
        """
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @property
    def step_count(self) -> int:
        """Number of steps that the first group has made."""
        return int(_core.optim_step(self._states[0]))

    def state_dict(self) -> dict[str, Any]:
        """Options and step counts by group, state arrays by parameter index and name."""
        order = [p for g in self.param_groups for p in g["params"]]
        index = {id(p): i for i, p in enumerate(order)}
        return {
            "param_groups": [
                {
                    **{k: v for k, v in g.items() if k != "params"},
                    "params": [index[id(p)] for p in g["params"]],
                }
                for g in self.param_groups
            ],
            "steps": [int(_core.optim_step(s)) for s in self._states],
            "state": {
                i: {k: np.array(v.to("cpu")) for k, v in self._slots[id(p)].items()}
                for i, p in enumerate(order)
                if id(p) in self._slots
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned.

        Raises:
            ValueError: If the groups or shapes differ; nothing is changed then.
        """
        name = type(self).__name__
        order = [p for g in self.param_groups for p in g["params"]]
        sizes = [len(g["params"]) for g in self.param_groups]
        got = [len(g["params"]) for g in state["param_groups"]]
        if sizes != got:
            raise ValueError(f"{name}: expected groups of {sizes} parameters, got {got}")
        for i, slots in state["state"].items():
            for key, value in slots.items():
                if tuple(value.shape) != order[int(i)].shape:
                    raise ValueError(
                        f"{name}: expected {key} of parameter {i} of shape {order[int(i)].shape}, "
                        f"got {tuple(value.shape)}"
                    )
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({k: v for k, v in saved.items() if k != "params"})
        for i, (group, steps) in enumerate(zip(self.param_groups, state["steps"], strict=True)):
            fresh = _core.make_optim_state(float(group["lr"]), int(steps))
            _core.copy_(self._states[i], _core.to_device(fresh, self._states[i].device))
        for i, slots in state["state"].items():
            for key, value in slots.items():
                self._slot(key, [order[int(i)]])[0].copy_(value)


def _check_range(
    name: str, option: str, value: float, low: float, high: float = float("inf")
) -> None:
    if not low <= value < high:
        bound = (
            f"{low} <= {option} < {high}" if high != float("inf") else f"a finite {option} >= {low}"
        )
        raise ValueError(f"{name}: expected {bound}, got {value}")
