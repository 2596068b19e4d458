"""Tensor and the tape.

A differentiable op is a rule: a function of arrays that returns ``(outputs, vjp)``. ``apply`` calls
it and, when an input requires a gradient, leaves a node behind; ``Tensor.backward`` walks the nodes
in reverse with an explicit stack, so depth is not limited. C++ knows nothing of this.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _convert, _core

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Tensor", "apply", "from_numpy", "is_grad_enabled", "no_grad", "ones", "tensor", "zeros"]

Vjp = Callable[[Any, tuple[bool, ...]], tuple[Any, ...]]
Rule = Callable[..., tuple[Any, Vjp]]

_ADD = _core.BINARIES["add"]
_grad_enabled = True


class Node:
    """One recorded op: its inputs, the rule for their gradients, and what that rule has saved."""

    __slots__ = ("inputs", "name", "num_outputs", "versions", "vjp")

    def __init__(self, name: str, inputs: tuple[Any, ...], vjp: Vjp, num_outputs: int) -> None:
        self.name = name
        self.inputs = inputs
        self.vjp: Vjp | None = vjp
        self.num_outputs = num_outputs
        self.versions = _core.saved_versions(vjp)

    def gradients(self, dys: Sequence[Any]) -> tuple[Any, ...]:
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
        needs = tuple(isinstance(x, Tensor) and x.requires_grad for x in self.inputs)
        return self.vjp(dys[0] if self.num_outputs == 1 else tuple(dys), needs)


class Tensor(_core.TensorBase):
    """A contiguous array of one dtype on one device, and its place on the tape.

    Made by :func:`tensor`, :func:`from_numpy`, or an op. ``reshape`` shares memory, everything else
    copies. Tensors are compared and hashed by identity.

    Attributes:
        shape: Sizes of the axes, a tuple.
        dtype: ``"float32"``, ``"bfloat16"``, ``"int64"`` or ``"uint8"``.
        device: ``"cpu"`` or ``"cuda"``.
        grad: The gradient that ``backward`` accumulated, or None.
        requires_grad: Whether ops record this Tensor for ``backward``.
    """

    __slots__ = ()
    __array_priority__ = 1000  # so that array + Tensor asks the Tensor

    # ---- the tape ----------------------------------------------------------------------------

    def backward(self, gradient: ArrayLike | Tensor | None = None) -> None:
        """Accumulate d(self)/d(leaf) into ``.grad`` of every leaf that requires it.

        Args:
            gradient: The gradient of some scalar with respect to this Tensor, of the same shape. May
                be left out for a scalar, where it is 1.

        Raises:
            RuntimeError: If nothing requires a gradient, or the graph was used before.
            ValueError: If the gradient is missing or its shape is not this Tensor's.

        Example:
            >>> import fastnn as fn
            >>> x = fn.tensor([1.0, 2.0], requires_grad=True)
            >>> (x * x).sum().backward()
            >>> x.grad.numpy()
            array([2., 4.], dtype=float32)
        """
        if not self.requires_grad:
            raise RuntimeError("backward: expected a Tensor that requires a gradient, got one that does not")
        if gradient is None:
            if math.prod(self.shape) != 1:
                raise ValueError(
                    f"backward: expected a gradient for a Tensor of shape {self.shape}, got none; "
                    "only a scalar has a default"
                )
            gradient = _core.full(self.shape, 1.0, self.dtype, self.device)
        seed: Any = gradient if isinstance(gradient, Tensor) else _core.share(gradient)
        if seed.shape != self.shape:
            raise ValueError(
                f"backward: expected a gradient of shape {self.shape}, got {seed.shape}"
            )
        _run_backward(self, seed)

    def detach(self) -> Tensor:
        """A Tensor with the same memory that the tape does not know.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).detach().requires_grad
            False
        """
        return _core.share(self)

    # ---- to and from the host ----------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """A NumPy view of the memory (bfloat16: a float32 copy).

        Raises:
            CaptureError: Inside a captured function.
            RuntimeError: If the Tensor is on another device, or the tape needs it: ``detach()`` it.

        Example:
            >>> import fastnn as fn
            >>> fn.zeros(3).numpy()
            array([0., 0., 0.], dtype=float32)
        """
        if self.requires_grad:
            raise RuntimeError("numpy: expected a Tensor without gradient, got one that requires it; call detach() first")
        return np.asarray(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        _core.refuse_while_recording("a read of a Tensor on the host (numpy(), item(), np.asarray)")
        if self.device != "cpu":
            raise RuntimeError(f"numpy: expected a Tensor on cpu, got one on {self.device}; call .to('cpu') first")
        source = self if self.dtype != "bfloat16" else _core.to_dtype(self, "float32")
        array = np.asarray(memoryview(source))
        return array if dtype is None else array.astype(dtype)

    def item(self) -> float:
        """The value of a Tensor with one element.

        Example:
            >>> import fastnn as fn
            >>> fn.tensor([2.5]).item()
            2.5
        """
        if math.prod(self.shape) != 1:
            raise ValueError(f"item: expected a Tensor with one element, got shape {self.shape}")
        value: float = np.asarray(self.detach().to("cpu")).item()
        return value

    def to(self, target: str) -> Tensor:
        """This Tensor on another device, or in another floating dtype; itself if it is so already.

        Args:
            target: ``"cpu"``, ``"cuda"``, ``"float32"`` or ``"bfloat16"``.

        Raises:
            CudaError: If there is no usable CUDA device; the message says what is missing.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).to("bfloat16").dtype
            'bfloat16'
        """
        if target in ("cpu", "cuda"):
            return self if self.device == target else apply(_to_device, self, target=target)
        return self if self.dtype == target else apply(_to_dtype, self, target=target)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        source = self.clone() if copy else self
        return _core.to_dlpack(source, max_version is not None and max_version[0] >= 1)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1 if self.device == "cpu" else 2), 0

    # ---- shape, copies, arithmetic -------------------------------------------------------------

    def clone(self) -> Tensor:
        """A copy with its own memory, on the tape.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).clone().shape
            (2,)
        """
        return apply(_clone, self)

    def copy_(self, source: ArrayLike | Tensor) -> Tensor:
        """Write the values of ``source`` into this Tensor's memory.

        Args:
            source: Array of the same shape and dtype.

        Example:
            >>> import fastnn as fn
            >>> fn.zeros(2).copy_(np.array([1, 2], np.float32)).numpy()
            array([1., 2.], dtype=float32)
        """
        _core.copy_(self, source)
        return self

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape; one size may be -1. Shares memory.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2, 3).reshape(-1).shape
            (6,)
        """
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return apply(_reshape, self, shape=list(sizes))  # type: ignore[arg-type]

    def sum(self) -> Tensor:
        """The sum of all elements, a scalar; accumulated in float64.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(3).sum().item()
            3.0
        """
        return apply(_sum, self, scale=1.0)

    def mean(self) -> Tensor:
        """The mean of all elements, a scalar; accumulated in float64.

        Raises:
            ValueError: If there are no elements.

        Example:
            >>> import fastnn as fn
            >>> fn.tensor([1.0, 2.0]).mean().item()
            1.5
        """
        n = math.prod(self.shape)
        if n == 0:
            raise ValueError(f"mean: expected at least one element, got shape {self.shape}")
        return apply(_sum, self, scale=1.0 / n)

    def __add__(self, other: Any) -> Tensor:
        return _arithmetic("add", self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _arithmetic("sub", self, other)

    def __mul__(self, other: Any) -> Tensor:
        return _arithmetic("mul", self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _arithmetic("div", self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Tensor:
        return _arithmetic("rsub", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _arithmetic("rdiv", self, other)

    def __neg__(self) -> Tensor:
        return _arithmetic("mul", self, -1.0)

    def __matmul__(self, other: Any) -> Tensor:
        return apply(_matmul, self, other)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: expected a Tensor with an axis, got a scalar")
        return self.shape[0]

    def __float__(self) -> float:
        return self.item()

    def __repr__(self) -> str:
        place = "" if self.device == "cpu" else f", device='{self.device}'"
        grad = ", requires_grad=True" if self.requires_grad else ""
        if _core.is_recording():
            return f"Tensor(shape={self.shape}, dtype={self.dtype}{place}{grad})"
        text = np.array2string(np.asarray(self.detach().to("cpu")), separator=", ", prefix="Tensor(")
        return f"Tensor({text}, dtype={self.dtype}{place}{grad})"


# ---- making Tensors ------------------------------------------------------------------------------


def tensor(
    data: Any, dtype: str | None = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor with a copy of ``data``.

    Args:
        data: Numbers, nested lists, a NumPy array, or anything with ``__dlpack__``. float64 becomes
            float32, integers become int64.
        dtype: ``"float32"`` or ``"bfloat16"`` to convert; default: as the data.
        device: ``"cpu"`` or ``"cuda"``.
        requires_grad: Whether ``backward`` should compute its gradient.

    Raises:
        TypeError: For complex numbers, objects and strings.
        ValueError: For values beyond float32.

    Example:
        >>> import fastnn as fn
        >>> fn.tensor([[1.0, 2.0]]).shape
        (1, 2)
    """
    shared: Any = _core.share(data)
    if dtype is not None and dtype != shared.dtype:
        if shared.dtype in ("int64", "uint8"):
            shared = _core.share(np.asarray(shared).astype(np.float32))
        shared = _core.to_dtype(shared, dtype) if dtype != shared.dtype else shared
    result = _core.clone(shared) if device == "cpu" else _core.to_device(shared, device)
    if requires_grad:
        _check_float("tensor", result)
        result.requires_grad = True
    return result


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A Tensor that shares the memory of a contiguous float32, int64 or uint8 array.

    The array must not change while the tape needs it.

    Raises:
        TypeError: If the array would have to be converted; use :func:`tensor` for a copy.

    Example:
        >>> import fastnn as fn
        >>> a = np.zeros(2, np.float32)
        >>> fn.from_numpy(a).copy_(np.ones(2, np.float32)); a
        Tensor([1., 1.], dtype=float32)
        array([1., 1.], dtype=float32)
    """
    if not (
        isinstance(array, np.ndarray)
        and array.dtype.name in ("float32", "int64", "uint8")
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
    ):
        got = (
            f"dtype {array.dtype} with strides {array.strides}"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise TypeError(
            "from_numpy: expected a contiguous float32, int64 or uint8 array, got "
            f"{got}; fastnn.tensor() copies and converts"
        )
    return _core.share(array)


def zeros(*shape: int, dtype: str = "float32", device: str = "cpu") -> Tensor:
    """A Tensor of zeros.

    Example:
        >>> import fastnn as fn
        >>> fn.zeros(2, 1).shape
        (2, 1)
    """
    return _core.full(list(shape), 0.0, dtype, device)


def ones(*shape: int, dtype: str = "float32", device: str = "cpu") -> Tensor:
    """A Tensor of ones.

    Example:
        >>> import fastnn as fn
        >>> fn.ones(2).sum().item()
        2.0
    """
    return _core.full(list(shape), 1.0, dtype, device)


# ---- recording -----------------------------------------------------------------------------------


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
    global _grad_enabled
    before, _grad_enabled = _grad_enabled, False
    try:
        yield
    finally:
        _grad_enabled = before


def is_grad_enabled() -> bool:
    """Whether ops record at the moment.

    Example:
        >>> import fastnn as fn
        >>> fn.is_grad_enabled()
        True
    """
    return _grad_enabled


def apply(rule: Rule, *inputs: Any, **params: Any) -> Any:
    """Call a rule; record it when one of its inputs requires a gradient.

    Args:
        rule: Function of the inputs and params that returns ``(outputs, vjp)``; ``outputs`` is a
            Tensor or a tuple of them, and ``vjp(dys, needs)`` returns one gradient, or None, per
            input.
        *inputs: Tensors or arrays, or None.
        **params: What is not differentiated.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.tensor import apply
        >>> def double(x):
        ...     return x + x, lambda dy, needs: (dy + dy,)
        >>> x = fn.tensor([1.0], requires_grad=True)
        >>> apply(double, x).backward()
        >>> x.grad.item()
        2.0
    """
    if _grad_enabled:
        for x in inputs:
            if isinstance(x, Tensor) and x.requires_grad:
                return _record(rule, inputs, params)
    return rule(*inputs, **params)[0]


def _record(rule: Rule, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
    global _grad_enabled
    _grad_enabled = False
    try:
        outputs, vjp = rule(*inputs, **params)
    finally:
        _grad_enabled = True
    several = isinstance(outputs, tuple)
    node = Node(rule.__name__.lstrip("_"), inputs, vjp, len(outputs) if several else 1)
    results = []
    for i, y in enumerate(outputs if several else (outputs,)):
        # Another object for the same memory: the rule may have saved y, and y must not keep its own
        # node alive.
        result = _core.share(y)
        result.requires_grad = True
        result._node = (node, i)
        results.append(result)
    return tuple(results) if several else results[0]


def _run_backward(root: Tensor, seed: Any) -> None:
    gradients: dict[Node, list[Any]] = {}
    owned = {_core.data_pointer(seed)}  # memory that some .grad, or the caller, holds already

    def give(x: Tensor, dx: Any) -> None:
        if x._node is None:
            _accumulate_leaf(x, dx, owned)
        else:
            node, i = x._node
            slots = gradients.setdefault(node, [None] * node.num_outputs)
            slots[i] = dx if slots[i] is None else _core.binary(_ADD, slots[i], dx)

    order = _topological(root)
    give(root, seed)
    for node in reversed(order):
        dys = gradients.pop(node, None)
        if dys is None:
            continue
        for x, dx in zip(node.inputs, node.gradients(dys), strict=True):
            if dx is not None and isinstance(x, Tensor) and x.requires_grad:
                give(x, dx)
        node.vjp = None  # frees what it saved
        node.inputs = ()


def _accumulate_leaf(x: Tensor, dx: Any, owned: set[int]) -> None:
    if x.grad is not None:
        x.grad = _core.binary(_ADD, x.grad, dx)
    elif _core.data_pointer(dx) in owned:
        x.grad = _core.clone(dx)
    else:
        x.grad = dx
    owned.add(_core.data_pointer(x.grad))


def _topological(root: Tensor) -> list[Node]:
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
            stack.extend(
                (x._node[0], False)
                for x in node.inputs
                if isinstance(x, Tensor) and x._node is not None
            )
    return order


# ---- the rules of Tensor's own methods -----------------------------------------------------------


def _arithmetic(name: str, x: Any, z: Any) -> Tensor:
    if isinstance(z, (int, float)):
        return apply(_scalar_binary, x, name=name, scalar=float(z))
    if not isinstance(z, Tensor):
        z = _core.share(z)
    if name in ("rsub", "rdiv"):
        name, x, z = name[1:], z, x
    return apply(_binary, x, z, name=name)


# A vjp closes over what it needs and nothing else: the tape keeps that alive, and guards it against
# writes in place.


def _binary(x: Any, z: Any, *, name: str) -> tuple[Any, Vjp]:
    y = _core.binary(_core.BINARIES[name], x, z)
    if name == "add":
        return y, lambda dy, needs: (dy, dy)
    if name == "sub":
        return y, lambda dy, needs: (dy, dy * -1.0 if needs[1] else None)

    def mul(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return dy * z if needs[0] else None, dy * x if needs[1] else None

    def div(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return dy / z if needs[0] else None, dy * x / (z * z) * -1.0 if needs[1] else None

    return y, mul if name == "mul" else div


def _scalar_binary(x: Any, *, name: str, scalar: float) -> tuple[Any, Vjp]:
    y = _core.binary_scalar(_core.BINARIES[name], x, scalar)
    if name in ("add", "sub"):
        return y, lambda dy, needs: (dy,)
    if name == "rsub":
        return y, lambda dy, needs: (dy * -1.0,)
    if name == "rdiv":
        return y, lambda dy, needs: (dy * scalar / (x * x) * -1.0,)
    return y, lambda dy, needs: (dy * scalar if name == "mul" else dy / scalar,)


def _matmul(x: Any, z: Any) -> tuple[Any, Vjp]:
    y = _core.matmul(x, z)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx = _core.matmul(dy, z, transpose_b=True) if needs[0] else None
        dz = _core.matmul(x, dy, transpose_a=True) if needs[1] else None
        return dx, dz

    return y, vjp


def _sum(x: Any, *, scale: float) -> tuple[Any, Vjp]:
    shape = x.shape
    y = _core.sum(x, scale, False)
    return y, lambda dy, needs: (_core.broadcast_scalar(dy, shape, scale),)


def _reshape(x: Any, *, shape: list[int]) -> tuple[Any, Vjp]:
    before = list(x.shape)
    return _core.reshape(x, shape), lambda dy, needs: (_core.reshape(dy, before),)


def _clone(x: Any) -> tuple[Any, Vjp]:
    return _core.clone(x), lambda dy, needs: (dy,)


def _to_device(x: Any, *, target: str) -> tuple[Any, Vjp]:
    source = x.device
    return _core.to_device(x, target), lambda dy, needs: (_core.to_device(dy, source),)


def _to_dtype(x: Any, *, target: str) -> tuple[Any, Vjp]:
    source = x.dtype
    return _core.to_dtype(x, target), lambda dy, needs: (_core.to_dtype(dy, source),)


def _check_float(op: str, x: Any) -> None:
    if x.dtype not in ("float32", "bfloat16", "float16"):
        raise TypeError(f"{op}: expected a floating-point Tensor to require a gradient, got {x.dtype}")


_core.set_tensor_type(Tensor, _convert.to_array)
