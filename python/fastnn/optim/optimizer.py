"""Optimizer: parameter groups, their state, and what all optimizers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastnn import _core
from fastnn._checks import Checked
from fastnn.capture import note_optimizer, unrecorded
from fastnn.optim.options import check_range, kernel_options, momentum_of
from fastnn.optim.rates import RateTable
from fastnn.tensor import Tensor

__all__ = ["Optimizer", "Params"]

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
Hook = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]


class Optimizer(Checked):
    """Base of the optimizers.

    Learning rates, momentum (or the first of ``betas``) and step counts live in memory that the
    kernels read, so that a captured step follows changes of ``param_groups[i]["lr"]``. A step is
    one update for each group. State is float32 whatever the parameters' dtype; each parameter
    counts its own steps.

    Args:
        params: Tensors, or dictionaries with ``"params"`` and options of their own.
        defaults: Options of groups that do not give their own.
    """

    rule = ""  # name of the update rule in formulas/optim.h, unless options decide
    slots: tuple[str, ...] = ()  # names of the float32 state that a parameter may have
    scalars: tuple[str, ...] = ("step",)  # names of what is counted per parameter

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__}: expected Tensors or groups of them, got one Tensor; put "
                "it into a list"
            )
        if not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__}: expected Tensors or groups of them, got "
                f"{type(params).__name__}; a model's are model.parameters()"
            )
        items: list[Any] = list(params)
        if not items:
            raise ValueError(f"{type(self).__name__}: expected at least one parameter, got none")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._rates: list[Any] = []  # rate and momentum of each group, as float64
        self.table: RateTable | None = None  # where rates come from instead
        self.rates = self._rates  # what the step reads
        self._records: list[Any] = []  # step counts and what depends on them, by group
        self._options: list[tuple[list[Any] | None, Any]] = []  # values, and made from them
        self._slots: dict[int, dict[str, Any]] = {}
        self._hooks: list[Hook] = []
        self.version = 0  # counts the changes that a recorded step does not follow
        for group in items if isinstance(items[0], dict) else [{"params": items}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, from now on.

        Args:
            group: ``"params"``, and options of their own; the others are the defaults.

        Raises:
            ValueError: If an option is unknown or out of range, or a parameter is there already.

        Example:
            >>> import fastnn as fn
            >>> a, b = (fn.tensor([1.0], requires_grad=True) for _ in range(2))
            >>> optimizer = fn.optim.SGD([a], lr=0.5)
            >>> optimizer.add_param_group({"params": [b], "lr": 0.25})
            >>> [g["lr"] for g in optimizer.param_groups]
            [0.5, 0.25]
        """
        name = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            got = list(group) if isinstance(group, dict) else type(group).__name__
            raise ValueError(
                f"{name}: expected a group to be a dictionary with 'params', got {got}"
            )
        if unknown := [option for option in group if option not in self._known_options()]:
            options = ", ".join(map(repr, self.defaults))
            raise ValueError(
                f"{name}: expected options of a group to be of {options}, got {unknown[0]!r}"
            )
        members = group["params"]
        members = [members] if isinstance(members, Tensor) else list(members)
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for p in members:
            if not isinstance(p, Tensor) or not p.requires_grad:
                raise ValueError(
                    f"{name}: expected Tensors that require a gradient, got {type(p).__name__}"
                )
            if p.layout != "nchw":
                raise ValueError(
                    f"{name}: expected parameters in the order of their shape, got one of shape "
                    f"{p.shape} that is channels-last; contiguous() gives it the other order"
                )
            if id(p) in seen:
                raise ValueError(
                    f"{name}: expected each parameter once, got one of shape {p.shape} twice"
                )
            seen.add(id(p))
        full = {**self.defaults, **group, "params": members}
        self._check(full)
        self.param_groups.append(full)
        self.version += 1
        self._options.append((None, None))
        self._rates.append(_core.make_optim_rates(full["lr"], momentum_of(full)))
        self._records.append(_core.make_optim_records([(0, 1.0)] * len(members)))

    def _known_options(self) -> set[str]:
        """What a group may say: the options, and what torch keeps beside them."""
        return {*self.defaults, "params", "param_names", "initial_lr", "name"}

    def _check(self, group: dict[str, Any]) -> None:
        """Refuse options that are out of range."""
        for option, value in group.items():
            check_range(type(self).__name__, option, value)

    def _rule(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The update rule of a group, and its slots in their order there."""
        return self.rule, self.slots

    def _initial(self, slot: str, group: dict[str, Any]) -> float:
        """What a slot holds before the first step."""
        return 0.0

    # ---- the step ------------------------------------------------------------------------------

    def step(self, *, max_grad_norm: float | None = None, grad_scaler: Any = None) -> None:
        """Update every parameter that has a gradient.

        Args:
            max_grad_norm: Clip the norm of all gradients as one vector to this, as
                :func:`fastnn.nn.utils.clip_grad_norm_` does, but inside the update: the gradients
                stay as they are.
            grad_scaler: The :class:`fastnn.amp.GradScaler` whose loss the gradients are of: the
                update divides them by its scale, and where one is not finite there is none.

        Raises:
            ValueError: If a gradient is NaN or infinite, or overflows the second moment; nothing is
                changed then, and the message says where.

        Example:
            >>> import fastnn as fn
            >>> w = fn.tensor([1.0, 1.0], requires_grad=True)
            >>> w.grad = fn.tensor([3.0, 4.0])
            >>> fn.optim.SGD([w], lr=1.0).step(max_grad_norm=0.5)
            >>> w.detach().numpy()
            array([0.7, 0.6], dtype=float32)
        """
        name = type(self).__name__
        if max_grad_norm is not None and not max_grad_norm >= 0:
            raise ValueError(f"{name}: expected max_grad_norm >= 0, got {max_grad_norm}")
        self.sync()
        self._place()
        self.rates = self._rates if self.table is None else self.table.take()
        groups = [self._kernel_group(i) for i in range(len(self.param_groups))]
        groups = [group for group in groups if group is not None]
        if groups:
            scaler = None if grad_scaler is None else grad_scaler.memory
            _core.optim_step(name.lower(), groups, max_grad_norm, scaler)
        for hook in self._hooks:
            hook(self, (), {})

    def _place(self) -> None:
        """Keep what the kernels read where the parameters are."""
        for i, group in enumerate(self.param_groups):
            for p in group["params"][:1]:
                if p.device != self._rates[i].device:
                    with unrecorded():
                        self._rates[i] = _core.to_device(self._rates[i], p.device)
                        self._records[i] = _core.to_device(self._records[i], p.device)

    def _kernel_group(self, index: int) -> Any:
        """What the update of a group takes; None if none of its parameters has a gradient."""
        group = self.param_groups[index]
        places = [i for i, p in enumerate(group["params"]) if p.grad is not None]
        if not places:
            return None
        params = [group["params"][i] for i in places]
        rule, slots = self._rule(group)
        return _core.OptimGroup(
            _core.OPTIM_RULES[rule],
            params,
            [p.grad for p in params],
            [self._slot(slot, group, params) for slot in slots],
            places,
            self.rates[index],
            self._records[index],
            self._options_of(index, group),
        )

    def _options_of(self, index: int, group: dict[str, Any]) -> Any:
        """The group's options as the kernels take them; made anew when they have changed."""
        values = [v for k, v in group.items() if k not in ("lr", "params")]
        known, options = self._options[index]
        if values != known:
            options = _core.OptimOptions(kernel_options(group))
            self._options[index] = values, options
        return options

    def _slot(self, name: str, group: dict[str, Any], params: list[Tensor]) -> list[Any]:
        """The float32 state of each parameter, made when it is first asked for."""
        for p in params:
            slots = self._slots.setdefault(id(p), {})
            if name not in slots:
                with unrecorded():
                    fresh = _core.full(p.shape, self._initial(name, group), "float32", "cpu")
                    slots[name] = _core.to_device(fresh, p.device)
        return [self._slots[id(p)][name] for p in params]

    def prepare(self) -> None:
        """Make the state of every parameter now, instead of at its first step."""
        for group in self.param_groups:
            for name in self._rule(group)[1]:
                self._slot(name, group, group["params"])

    def sync(self) -> None:
        """Write the groups' learning rates and momentum to where the kernels read them.

        :meth:`step` and captured functions do it by themselves.
        """
        if _core.is_recording():
            note_optimizer(self)
        for group, rate in zip(self.param_groups, self._rates, strict=True):
            _core.set_optim_rates(rate, float(group["lr"]), momentum_of(group))

    def register_step_post_hook(self, hook: Hook) -> Callable[[], None]:
        """Call ``hook(optimizer, args, kwargs)`` after each step; captured with it.

        Returns a function that removes the hook.

        Example:
            >>> import fastnn as fn
            >>> w = fn.tensor([1.0], requires_grad=True)
            >>> optimizer = fn.optim.SGD([w])
            >>> remove = optimizer.register_step_post_hook(lambda o, args, kwargs: print("done"))
            >>> optimizer.step()
            done
            >>> remove()
        """
        self._hooks.append(hook)
        self.version += 1

        def remove() -> None:
            self._hooks.remove(hook)
            self.version += 1

        return remove

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: Accepted for torch's sake; gradients are always set to None.
        """
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    # ---- state ---------------------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """Number of steps that any parameter has made, at most."""
        return max(r[0] for records in self._records for r in _core.read_optim_records(records))

    def state_dict(self) -> dict[str, Any]:
        """Options by group; counts and state arrays by parameter index and name, as in torch."""
        order = [p for g in self.param_groups for p in g["params"]]
        index = {id(p): i for i, p in enumerate(order)}
        counts = [r for records in self._records for r in _core.read_optim_records(records)]
        return {
            "param_groups": [
                {
                    **{k: v for k, v in g.items() if k != "params"},
                    "params": [index[id(p)] for p in g["params"]],
                }
                for g in self.param_groups
            ],
            "state": {
                i: {
                    **dict(zip(self.scalars, counts[i], strict=False)),
                    **{k: np.array(v.to("cpu")) for k, v in self._slots.get(id(p), {}).items()},
                }
                for i, p in enumerate(order)
                if counts[i][0] or id(p) in self._slots
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict`, or torch's of the same optimizer, returned.

        Raises:
            ValueError: If the groups, options, names or shapes differ, or a number is not finite;
                nothing is changed then.
        """
        name = type(self).__name__
        if not {"param_groups", "state"} <= state.keys():
            raise ValueError(f"{name}: expected 'param_groups' and 'state', got {list(state)}")
        order = [p for g in self.param_groups for p in g["params"]]
        sizes = [len(g["params"]) for g in self.param_groups]
        got = [len(g["params"]) for g in state["param_groups"]]
        if sizes != got:
            raise ValueError(f"{name}: expected groups of {sizes} parameters, got {got}")
        for i, values in state["state"].items():
            self._check_state(int(i), order[int(i)], values)
        options = [
            {k: saved.get(k, v) for k, v in group.items() if k != "params"}
            for group, saved in zip(self.param_groups, state["param_groups"], strict=True)
        ]
        for new in options:
            self._check(new)
        counts = [self._counts(state["state"].get(i, {})) for i in range(len(order))]
        for i, (group, new) in enumerate(zip(self.param_groups, options, strict=True)):
            group.update(new)
            self.version += 1
            fresh = _core.make_optim_records([counts.pop(0) for _ in group["params"]])
            _core.copy_(self._records[i], _core.to_device(fresh, self._records[i].device))
        groups = [g for g in self.param_groups for _ in g["params"]]
        for i, values in state["state"].items():
            for key in self.slots:
                if values.get(key) is not None:
                    value = np.asarray(values[key], np.float32)
                    self._slot(key, groups[int(i)], [order[int(i)]])[0].copy_(value)

    def _check_state(self, i: int, p: Tensor, values: Mapping[str, Any]) -> None:
        name = type(self).__name__
        for key, value in values.items():
            if key not in self.slots and key not in self.scalars and key != "step":
                raise ValueError(f"{name}: expected state {self.slots}, got {key!r}")
            shape = tuple(np.shape(value))
            if key not in self.slots or value is None:
                continue
            if shape != p.shape:
                raise ValueError(
                    f"{name}: expected {key} of parameter {i} of shape {p.shape}, got {shape}"
                )
            flat = np.asarray(value, np.float32).ravel()
            if not np.isfinite(flat).all():  # which a step would neither use nor report
                at = int(np.isfinite(flat).argmin())
                raise ValueError(
                    f"{name}: expected finite {key} of parameter {i}, got {flat[at]} at flat index "
                    f"{at}"
                )
        if not 0 <= self._counts(values)[0] < 1 << 62:
            raise ValueError(
                f"{name}: expected a step count >= 0 of parameter {i}, got {values['step']}"
            )

    def _counts(self, values: Mapping[str, Any]) -> tuple[int, float]:
        """(step, mu_product). torch's SGD counts nothing: a velocity stands for a first step."""
        step = values.get("step", int(values.get("momentum_buffer") is not None))
        return int(step), float(values.get("mu_product", 1.0))

    def structure(self) -> object:
        """What a recorded step depends on besides memory; rates and momentum may change."""
        options = [(self._rule(g), kernel_options(g)) for g in self.param_groups]
        return options, self.version, id(self.table)
