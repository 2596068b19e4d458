"""The tape: what ops record, and how gradients flow back.

A differentiable op is a rule: a function of arrays that returns ``(outputs, vjp)``. :func:`apply`
calls it and, when an input requires a gradient, leaves a node behind; :func:`run_backward` walks
the nodes in reverse with an explicit stack, so depth is not limited. What every op pays for, apply
and the nodes, is native (csrc/ops/tape_node.cc); what becomes of the nodes is here alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn._checks import refuse_caller

if TYPE_CHECKING:
    from fastnn.tensor import Tensor

__all__ = [
    "Node",
    "Passed",
    "Rule",
    "Vjp",
    "apply",
    "apply_in_place",
    "autocast_key",
    "enable_grad",
    "is_grad_enabled",
    "no_grad",
    "run_backward",
    "set_autocast",
]

Vjp = Callable[[Any, tuple[bool, ...]], tuple[Any, ...]]
Rule = Callable[..., tuple[Any, Vjp]]

_ADD = _core.BINARIES["add"]


def _needs(x: Any) -> bool:
    return isinstance(x, _core.TensorBase) and x.requires_grad


class Node(_core.NodeBase):
    """One recorded op: its inputs, the rule for their gradients, and what that rule has saved."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The op, for messages."""
        return self.rule_name.lstrip("_")

    def gradients(self, dys: Sequence[Any], passage: Any = None) -> tuple[Any, ...]:
        """The gradients of the inputs that need one, given those of the outputs."""
        if self.vjp is None:
            raise RuntimeError(
                f"backward: the graph of {self.name} was freed by an earlier backward(); "
                "run the forward pass again"
            )
        if _core.saved_versions(self.vjp) != self.versions:
            raise RuntimeError(
                f"backward: a Tensor that {self.name} needs was changed in place after the forward "
                "pass; clone() it before the change"
            )
        # A vjp pairs dy with what it saved element by element, so dy has the layout of its y.
        dys = [
            dy if dy is None or dy.layout == layout else _core.to_layout(dy, layout)
            for dy, layout in zip(dys, self.layouts, strict=True)
        ]
        needs = tuple(map(_needs, self.inputs))
        dy = dys[0] if len(dys) == 1 else tuple(dys)
        found: tuple[Any, ...]
        found = self.vjp(dy, needs) if passage is None else self.vjp(dy, needs, passage)
        return found


_core.set_node_type(Node)
_core.set_refuse_caller(refuse_caller)
apply = _core.apply


class Passed:
    """The gradient of a layer's result after its dropout and activation, and its bias's, if it was
    asked for: both made by the vjp of the layer after it, which took this one's passage. With
    places, dz is of max pooling's windows of 2 x 2, and those are where their largest elements
    are."""

    __slots__ = ("db", "dz", "places")
    layout = "nchw"

    def __init__(self, dz: Any, db: Any, places: Any = None) -> None:
        self.dz = dz
        self.db = db
        self.places = places


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside, ops record nothing.

    Example:
        >>> import fastnn as fn
        >>> x = fn.tensor([1.0], requires_grad=True)
        >>> with fn.no_grad():
        ...     (x * 2).requires_grad
        False
    """
    before = _core.set_grad_enabled(False)
    try:
        yield
    finally:
        _core.set_grad_enabled(before)


@contextlib.contextmanager
def enable_grad() -> Iterator[None]:
    """Inside, ops record, also within :func:`no_grad`.

    Example:
        >>> import fastnn as fn
        >>> x = fn.tensor([1.0], requires_grad=True)
        >>> with fn.no_grad(), fn.enable_grad():
        ...     (x * 2).requires_grad
        True
    """
    before = _core.set_grad_enabled(True)
    try:
        yield
    finally:
        _core.set_grad_enabled(before)


def is_grad_enabled() -> bool:
    """Whether ops record at the moment.

    Example:
        >>> import fastnn as fn
        >>> fn.is_grad_enabled()
        True
    """
    return _core.is_grad_enabled()


def set_autocast(autocast: Any) -> Any:
    """Let ops ask this one for their inputs from now on; None: nobody. Returns the one before.

    Example:
        >>> from fastnn import tape
        >>> tape.set_autocast(None) is None
        True
    """
    return _core.set_autocast(autocast)


def autocast_key() -> object:
    """What a recording depends on of the autocast that there is.

    Example:
        >>> import fastnn as fn
        >>> with fn.autocast("cpu"):
        ...     fn.tape.autocast_key()
        ('cpu', 'bfloat16')
    """
    autocast = _core.autocast()
    return None if autocast is None else autocast.key


def apply_in_place(rule: Rule, x: Any, *, name: str, **params: Any) -> Tensor:
    """Call a rule that writes its result over x; x is that result from now on, on the tape as well.

    Raises:
        RuntimeError: If x is a leaf that requires a gradient, which is of the value that it has.

    Example:
        >>> import fastnn as fn
        >>> x = fn.tensor([-1.0, 2.0])
        >>> fn.functional.relu(x, inplace=True) is x, x.numpy()
        (True, array([0., 2.], dtype=float32))
    """
    # Another object for the same memory: x must not keep its own node alive.
    memory = _core.share(x)
    if not (_core.is_grad_enabled() and x.requires_grad):
        rule(memory, **params)
        result: Tensor = x
        return result
    if x._node is None:
        raise RuntimeError(
            f"{name}: expected the result of an op to write in place, got a leaf that requires a "
            "gradient; call it without inplace"
        )
    before = _core.share(x)
    before.requires_grad = True
    before._node = x._node
    _, vjp = rule(memory, **params)
    _core.record_in_place(name, (before,), vjp, x)
    changed: Tensor = x
    return changed


def run_backward(root: Any, seed: Any) -> None:
    """Accumulate into every leaf below root the gradient of a scalar whose own at root is seed."""
    autocast = set_autocast(None)  # dtypes are those of the forward pass
    try:
        _run_backward(root, seed)
    finally:
        set_autocast(autocast)


def _run_backward(root: Any, seed: Any) -> None:
    gradients: dict[Node, list[Any]] = {}
    owned = {_core.data_pointer(seed)}  # memory that some .grad, or the caller, holds already

    def give(x: Any, source: tuple[Node, int] | None, dx: Any) -> None:
        if source is None:
            _accumulate_leaf(x, dx, owned)
        else:
            node, i = source
            slots = gradients.setdefault(node, [None] * len(node.layouts))
            slots[i] = dx if slots[i] is None else _core.binary(_ADD, slots[i], dx)

    order = _topological(root)
    give(root, root._node, seed)
    # Before the first node is done with: those forget what they came from.
    passes = any(hasattr(node.vjp, "takes") for node in order)
    alone = _asked_once(root, order) if passes else set()
    for node in reversed(order):
        dys = gradients.pop(node, None)
        if dys is None:
            continue
        passage = None
        takes = getattr(node.vjp, "takes", None)
        if takes is not None:
            source = node.sources[0]
            taken = source is not None and source[0].name == takes and source[0] in alone
            if taken and _needs(node.inputs[0]):
                passage = getattr(source[0].vjp, "passage", None)
        found = node.gradients(dys, passage)
        for x, source, dx in zip(node.inputs, node.sources, found, strict=True):
            if dx is not None and _needs(x):
                give(x, source, dx)
        node.vjp = None  # frees what it saved
        node.inputs = ()
        node.sources = ()


def _asked_once(root: Any, order: list[Node]) -> set[Node]:
    """The nodes whose outputs one input of one node is, and no more."""
    uses = dict.fromkeys(order, 0)
    uses[root._node[0]] += 1
    for node in order:
        for source in node.sources:
            if source is not None:
                uses[source[0]] += 1
    return {node for node, count in uses.items() if count == 1}


def _accumulate_leaf(x: Any, dx: Any, owned: set[int]) -> None:
    if dx.layout != x.layout:
        dx = _core.to_layout(dx, x.layout)
    if x.grad is not None:
        x.grad = _core.binary(_ADD, x.grad, dx)
    elif _core.data_pointer(dx) in owned:
        x.grad = _core.clone(dx)
    else:
        x.grad = dx
    owned.add(_core.data_pointer(x.grad))


def _topological(root: Any) -> list[Node]:
    """Nodes, inputs before outputs."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [] if root._node is None else [(root._node[0], False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((source[0], False) for source in node.sources if source is not None)
    return order
