"""Arrays put together, taken apart and padded."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules
from fastnn._checks import check_number, check_whole
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _as_tensors(op: str, tensors: Any) -> list[Tensor]:
    if not isinstance(tensors, Iterable) or isinstance(tensors, (str, bytes)):
        got = "one Tensor" if isinstance(tensors, Tensor) else repr(tensors)
        raise TypeError(f"{op}: expected tensors to be a sequence of arrays, got {got}")
    return [as_tensor(x) for x in tensors]


def _whole_numbers(op: str, name: str, values: Any) -> list[int]:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise TypeError(f"{op}: expected {name} to be whole numbers, got {values!r}") from None


def _cat(*arrays: Any, dim: int) -> tuple[Any, Vjp]:
    sizes = [x.shape[dim] if x.ndim else 0 for x in arrays]
    return _core.cat(arrays, dim), lambda dy, needs: tuple(_core.split(dy, sizes, dim))


def _split(x: Any, *, sizes: list[int], dim: int) -> tuple[Any, Vjp]:
    parts = tuple(_core.split(x, sizes, dim))
    shapes = [list(p.shape) for p in parts]
    dtype, device = x.dtype, x.device

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        given = dys if len(parts) > 1 else (dys,)
        whole = [
            _core.full(shape, 0.0, dtype, device) if dy is None else dy
            for dy, shape in zip(given, shapes, strict=True)
        ]
        return (_core.cat(whole, dim),)

    return parts, vjp


def cat(tensors: Sequence[ArrayLike | Tensor], dim: int = 0) -> Tensor:
    """Arrays one after the other along an axis.

    Args:
        tensors: Arrays of one dtype, whose shapes differ on that axis only.
        dim: The axis.

    Returns:
        Tensor whose axis has the sum of their sizes.

    Raises:
        ValueError: If shapes do not fit, or there is no array.
        TypeError: If dtypes differ, or what is given is no sequence.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.cat([[[1.0], [2.0]], [[3.0], [4.0]]], dim=1).numpy()
        array([[1., 3.],
               [2., 4.]], dtype=float32)
    """
    arrays = _as_tensors("cat", tensors)
    check_whole("cat", dim=dim)
    if arrays and not -arrays[0].ndim <= dim < arrays[0].ndim:
        ndim = arrays[0].ndim
        raise ValueError(f"cat: expected {-ndim} <= dim < {ndim}, got {dim}")
    return apply(_cat, *arrays, dim=dim)


def split(
    tensor: ArrayLike | Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Parts of an axis, copied.

    Args:
        tensor: Any array.
        split_size_or_sections: The size of every part (the last may be smaller), or their sizes.
        dim: The axis.

    Returns:
        A Tensor for each part.

    Raises:
        ValueError: If the sizes do not add up to the axis.
        TypeError: If sizes are no whole numbers.

    Example:
        >>> import fastnn as fn
        >>> [p.shape for p in fn.functional.split(fn.ones(5, 2), 2)]
        [(2, 2), (2, 2), (1, 2)]
    """
    x = as_tensor(tensor)
    check_whole("split", dim=dim)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"split: expected {-x.ndim} <= dim < {x.ndim}, got {dim}")
    n = x.shape[dim]
    if isinstance(split_size_or_sections, Iterable):
        sizes = _whole_numbers("split", "split_size_or_sections", split_size_or_sections)
    else:
        check_whole("split", split_size_or_sections=split_size_or_sections)
        size = operator.index(split_size_or_sections)
        if size <= 0:
            raise ValueError(f"split: expected a size > 0, got {size}")
        sizes = [min(size, n - i) for i in range(0, n, size)] or [0]
    parts: Any = apply(_split, x, sizes=sizes, dim=dim)
    return parts  # type: ignore[no-any-return]


def _stack(*arrays: Any, dim: int) -> tuple[Any, Vjp]:
    shape = list(arrays[0].shape)
    wide = [*shape[:dim], 1, *shape[dim:]]
    y = _core.cat([_core.reshape(x, wide) for x in arrays], dim)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if dim == 0:
            return tuple(_core.item(dy, i) for i in range(len(needs)))
        parts = _core.split(dy, [1] * len(needs), dim)
        return tuple(_core.reshape(part, shape) for part in parts)

    return y, vjp


def _unbind(x: Any) -> tuple[Any, Vjp]:
    parts = tuple(_core.item(x, i) for i in range(x.shape[0]))
    shape, dtype, device = list(x.shape[1:]), x.dtype, x.device

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        given = dys if len(parts) > 1 else (dys,)
        rows = [
            _core.reshape(_core.full(shape, 0.0, dtype, device) if dy is None else dy, [1, *shape])
            for dy in given
        ]
        return (_core.reshape(_core.cat(rows, 0), list(x.shape)),)

    return parts, vjp


def stack(tensors: Sequence[ArrayLike | Tensor], dim: int = 0) -> Tensor:
    """Arrays of one shape side by side, on a new axis.

    Args:
        tensors: Arrays of one shape and dtype.
        dim: Where the new axis stands.

    Returns:
        Tensor with one axis more.

    Raises:
        ValueError: If shapes differ, or there is no array.
        TypeError: If dtypes differ, or what is given is no sequence.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.stack([[1.0, 2.0], [3.0, 4.0]], dim=1).numpy()
        array([[1., 3.],
               [2., 4.]], dtype=float32)
    """
    arrays = _as_tensors("stack", tensors)
    check_whole("stack", dim=dim)
    if not arrays:
        raise ValueError("stack: expected at least one array, got none")
    first = arrays[0]
    for x in arrays:
        if x.shape != first.shape:
            raise ValueError(f"stack: expected equal shapes, got {first.shape} and {x.shape}")
    if not -first.ndim - 1 <= dim <= first.ndim:
        raise ValueError(f"stack: expected {-first.ndim - 1} <= dim <= {first.ndim}, got {dim}")
    return apply(_stack, *arrays, dim=dim % (first.ndim + 1))


def unbind(input: ArrayLike | Tensor) -> tuple[Tensor, ...]:
    """The items of the first axis. They share the input's memory.

    Args:
        input: Array of shape (n, ...), n > 0.

    Returns:
        n Tensors of shape (...).

    Raises:
        ValueError: If there is no item.

    Example:
        >>> import fastnn as fn
        >>> [part.shape for part in fn.functional.unbind(fn.ones(2, 3))]
        [(3,), (3,)]
    """
    x = as_tensor(input)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"unbind: expected at least one item on the first axis, got {x.shape}")
    parts: Any = apply(_unbind, x)
    return parts if isinstance(parts, tuple) else (parts,)


@_rules.keeps_layout
def _pad(
    x: Any, *, dim: int, widths: list[tuple[int, int]], mode: int, value: float
) -> tuple[Any, Vjp]:
    y = _core.pad(x, dim, widths, mode, value)
    return y, lambda dy, needs: (_core.pad_bwd(dy, dim, widths, mode),)


# Elements that axes padded at once may have: an index of them is written, and for a gradient sorted
# by one task, unless the padding is constant.
_PADDED_AT_ONCE = {"constant": 1 << 16}
_SORTED_AT_ONCE = 1 << 12


def _pad_groups(
    shape: tuple[int, ...], pad: Sequence[int], most: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(first axis, widths) of neighbouring axes that are padded at once, the last axes first."""
    group: list[tuple[int, int]] = []
    count = 1
    for i in range(0, len(pad), 2):
        dim, before, after = len(shape) - 1 - i // 2, pad[i], pad[i + 1]
        count *= shape[dim] + before + after
        if group and ((before, after) == (0, 0) or count > most):
            yield dim + 1, group
            group, count = [], shape[dim] + before + after
        if (before, after) != (0, 0):
            group.insert(0, (before, after))
        else:
            count = 1
    if group:
        yield len(shape) - len(pad) // 2, group


def pad(
    input: ArrayLike | Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """Elements before and after the last axes.

    Args:
        input: Any array.
        pad: (before, after) of the last axis, then of the one before it, and so on; negative
            numbers cut off.
        mode: ``"constant"``; ``"reflect"`` without repeating the edge; ``"replicate"`` the edge; or
            ``"circular"``.
        value: The constant.

    Returns:
        Tensor whose axes have before and after more elements.

    Raises:
        ValueError: If pad has an odd number of entries or too many, or an axis cannot fill them.
        TypeError: If the entries are no whole numbers, or value no number.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.pad([1.0, 2.0, 3.0], (2, 1), mode="reflect").numpy()
        array([3., 2., 1., 2., 3., 2.], dtype=float32)
    """
    x = as_tensor(input)
    if mode not in _core.PAD_MODES:
        names = ", ".join(repr(m) for m in _core.PAD_MODES)
        raise ValueError(f"pad: expected mode to be one of {names}, got {mode!r}")
    check_number("pad", "value", value)
    ends = _whole_numbers("pad", "pad", pad)
    if len(ends) % 2 or len(ends) > 2 * x.ndim:
        raise ValueError(
            f"pad: expected two widths for each of at most {x.ndim} axes, got {tuple(ends)}"
        )
    at_once = _PADDED_AT_ONCE.get(mode, _SORTED_AT_ONCE)
    for dim, widths in _pad_groups(x.shape, ends, at_once):
        x = apply(_pad, x, dim=dim, widths=widths, mode=_core.PAD_MODES[mode], value=float(value))
    return x  # type: ignore[no-any-return]
