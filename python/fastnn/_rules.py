"""The rules of Tensor's own methods and operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.tape import Rule, Vjp, apply

if TYPE_CHECKING:
    from fastnn.tensor import Tensor


def arithmetic(name: str, x: Any, z: Any) -> Tensor:
    """x op z, for a number or an array z of the same shape."""
    if isinstance(z, (int, float)):
        return apply(_scalar_binary, x, name=name, scalar=float(z))
    if not isinstance(z, _core.TensorBase):
        z = _core.share(z)
    if name in ("rsub", "rdiv"):
        name, x, z = name[1:], z, x
    return apply(_binary, x, z, name=name)


def keeps_layout(rule: Rule, native: Callable[..., bool] = lambda x, **params: False) -> Rule:
    """A rule whose kernels know the order of the shape only: channels-last goes in and comes out.

    A gradient with respect to the first input is channels-last as well. ``native`` tells for what
    the kernels know both orders."""

    def to_last(y: Any) -> Any:
        return _core.to_layout(y, "nhwc") if y is not None and y.ndim == 4 else y

    @wraps(rule)
    def kept(x: Any, *inputs: Any, **params: Any) -> tuple[Any, Vjp]:
        x = x if isinstance(x, _core.TensorBase) else _core.share(x)
        if x.layout == "nchw" or native(x, **params):
            return rule(x, *inputs, **params)
        y, vjp = rule(_core.to_layout(x, "nchw"), *inputs, **params)
        several = isinstance(y, tuple)

        def last(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
            dx, *rest = vjp(dy if several else _core.to_layout(dy, "nchw"), needs)
            return to_last(dx), *rest

        return tuple(map(to_last, y)) if several else to_last(y), last

    return kept


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


def matmul(x: Any, z: Any) -> Tensor:
    """x z over the last two axes; a vector is a row before the product, a column after it."""
    if not isinstance(z, _core.TensorBase):
        z = _core.share(z)
    if x.ndim > 1 and z.ndim > 1:
        return apply(_matmul, x, z)
    if x.ndim == 0 or z.ndim == 0:
        raise ValueError(
            f"matmul: expected arrays with at least one axis, got {x.shape} and {z.shape}"
        )
    axis = -min(z.ndim, 2)
    if x.shape[-1] != z.shape[axis]:
        raise ValueError(
            f"matmul: expected other.shape[{axis}] == {x.shape[-1]} to fit input {x.shape}, got "
            f"other {z.shape}"
        )
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    cols = z.reshape(-1, 1) if z.ndim == 1 else z
    y = apply(_matmul, rows, cols)
    kept = y.shape if x.ndim > 1 else (*y.shape[:-2], y.shape[-1])
    return y.reshape(kept[:-1] if z.ndim == 1 else kept)


def _matmul(x: Any, z: Any) -> tuple[Any, Vjp]:
    y = _core.matmul(x, z)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        # An axis that was repeated for the product is summed over.
        dx = _core.matmul(dy, z, transpose_b=True, to=x.shape[:-2]) if needs[0] else None
        dz = _core.matmul(x, dy, transpose_a=True, to=z.shape[:-2]) if needs[1] else None
        return dx, dz

    return y, vjp


def sum(x: Any, *, scale: float) -> tuple[Any, Vjp]:
    shape = x.shape
    y = _core.sum(x, scale, False)
    return y, lambda dy, needs: (_core.broadcast_scalar(dy, shape, scale),)


def reshape(x: Any, *, shape: list[int]) -> tuple[Any, Vjp]:
    # The result shares x's memory: a write in place to one of them changes the other, and what it
    # then is the tape does not know. Closing over x makes it notice.
    return _core.reshape(x, shape), lambda dy, needs: (_core.reshape(dy, list(x.shape)),)


def clone(x: Any) -> tuple[Any, Vjp]:
    return _core.clone(x), lambda dy, needs: (dy,)


def to_layout(x: Any, *, target: str) -> tuple[Any, Vjp]:
    source = x.layout
    return _core.to_layout(x, target), lambda dy, needs: (_core.to_layout(dy, source),)


def to_device(x: Any, *, target: str, non_blocking: bool = False) -> tuple[Any, Vjp]:
    source = x.device
    return _core.to_device(x, target, non_blocking), lambda dy, needs: (
        _core.to_device(dy, source),
    )


def to_dtype(x: Any, *, target: str) -> tuple[Any, Vjp]:
    source = x.dtype
    return _core.to_dtype(x, target), lambda dy, needs: (_core.to_dtype(dy, source),)
