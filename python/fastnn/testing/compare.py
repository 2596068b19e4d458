"""Comparison of results with oracles, and poisoned memory.

Errors are measured against a bound per element that the op table derives from the oracle's values;
there is no rtol or atol. What differs is named: the first bad element, its value, the oracle's, and
the bound. Poison makes an element that a kernel forgot to write a NaN, and a write behind the end
of an array visible.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import _core

Array = np.ndarray[Any, Any]

U = 2.0**-24  # unit roundoff of float32
U_BFLOAT16 = 2.0**-8
FLOAT_LIMIT = 2.0**128  # what infinity counts as, so that it is one ULP from the largest float

__all__ = [
    "U_BFLOAT16",
    "U",
    "assert_bitwise_equal",
    "assert_within",
    "free_blocks_poisoned",
    "guard_bytes",
    "round_to",
    "ulp",
    "ulp_distance",
    "unit_roundoff",
]


def unit_roundoff(dtype: str) -> float:
    """The largest relative error of rounding to a storage dtype.

    Example:
        >>> unit_roundoff("bfloat16")
        0.00390625
    """
    return {"float32": U, "bfloat16": U_BFLOAT16}[dtype]


def round_to(x: Array, dtype: str) -> Array:
    """The float64 values of x rounded to a storage dtype, to nearest, ties to even.

    Example:
        >>> round_to(np.array([1.00390625, 1.01171875]), "bfloat16")
        array([1.      , 1.015625])
    """
    with np.errstate(over="ignore"):
        single = np.asarray(x, np.float64).astype(np.float32)
    if dtype == "float32":
        return single.astype(np.float64)
    bits = single.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(single), single, rounded).astype(np.float64)


def ulp(x: Array) -> Array:
    """The distance of neighbouring float32 numbers at the size of x; 2^-149 for subnormal x.

    Example:
        >>> float(ulp(np.array(1.0))) == 2.0**-23
        True
    """
    size = np.clip(np.abs(np.asarray(x, np.float64)), 2.0**-126, 2.0**127)
    return np.asarray(np.exp2(np.frexp(np.where(np.isnan(size), 1.0, size))[1] - 24.0))


def ulp_distance(x: Array, z: Array) -> Array:
    """Steps from x to z over the float32 numbers; -0 equals 0, and NaN equals NaN.

    Example:
        >>> one = np.float32(1)
        >>> int(ulp_distance(one, np.nextafter(one, np.float32(2))))
        1
    """

    def order(v: Array) -> Array:
        bits = np.asarray(v, np.float32).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    both_nan = np.isnan(x) & np.isnan(z)
    return np.asarray(np.where(both_nan, 0, np.abs(order(x) - order(z))))


def _first(bad: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def assert_within(got: Array, oracle: Array, bound: Array | float, what: str = "result") -> None:
    """Raise unless |got - oracle| <= bound everywhere, and NaN is where the oracle has NaN.

    Args:
        got: The result, of any float dtype.
        oracle: The float64 oracle, of the same shape.
        bound: Absolute bound per element, or for all.
        what: Names the result in the message.

    Raises:
        AssertionError: With the first bad element, its value, the oracle's, and the bound.

    Example:
        >>> assert_within(np.float32([1.0]), np.array([1.5]), 0.25)
        Traceback (most recent call last):
        AssertionError: result[0]: got 1.0, expected 1.5 within 0.25, error 0.5 is 2 times that; ...
    """
    got, oracle = np.asarray(got, np.float64), np.asarray(oracle, np.float64)
    if got.shape != oracle.shape:
        raise AssertionError(f"{what}: got shape {got.shape}, expected {oracle.shape}")
    limit = np.broadcast_to(np.asarray(bound, np.float64), oracle.shape)
    error = np.abs(
        np.clip(got, -FLOAT_LIMIT, FLOAT_LIMIT) - np.clip(oracle, -FLOAT_LIMIT, FLOAT_LIMIT)
    )
    infinite = np.isinf(oracle) & np.isinf(got)  # then only the sign counts
    bad = np.where(infinite, np.sign(got) != np.sign(oracle), ~(error <= limit))
    bad = np.where(np.isnan(oracle) | np.isnan(got), np.isnan(oracle) != np.isnan(got), bad)
    if not bad.any():
        return
    i = _first(bad)
    factor = error[i] / limit[i] if limit[i] > 0 else np.inf
    raise AssertionError(
        f"{what}{list(i) if i else ''}: got {got[i]!s}, expected {oracle[i]!s} within "
        f"{limit[i]:.4g}, error {error[i]:.4g} is {factor:.4g} times that; "
        f"{int(bad.sum())} of {bad.size} bad"
    )


def assert_bitwise_equal(got: Array, expected: Array, what: str = "result") -> None:
    """Raise unless two arrays have the same dtype, shape and bits.

    Raises:
        AssertionError: With the first difference and both values.

    Example:
        >>> assert_bitwise_equal(np.float32([0.0]), np.float32([-0.0]))
        Traceback (most recent call last):
        AssertionError: result[0]: got 0.0 (0x00000000), expected -0.0 (0x80000000); 1 of 1 differ
    """
    got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        raise AssertionError(
            f"{what}: got {got.dtype} {got.shape}, expected {expected.dtype} {expected.shape}"
        )
    unsigned = np.dtype(f"u{got.dtype.itemsize}")
    bits, expected_bits = got.view(unsigned), expected.view(unsigned)
    differ = bits != expected_bits
    if not differ.any():
        return
    i = _first(differ)
    digits = 2 * got.dtype.itemsize
    raise AssertionError(
        f"{what}{list(i) if i else ''}: got {got[i]!s} (0x{int(bits[i]):0{digits}x}), expected "
        f"{expected[i]!s} (0x{int(expected_bits[i]):0{digits}x}); "
        f"{int(differ.sum())} of {differ.size} differ"
    )


# ---- poison --------------------------------------------------------------------------------------


def _size_class(size: int) -> int:
    """The allocator's size of a block for this many bytes (csrc/core/allocator.cc)."""
    if size <= 1024:
        return max(64, -(-size // 64) * 64)
    step = (1 << ((size - 1).bit_length() - 1)) // 4
    return -(-size // step) * step


def _size_classes(largest: int) -> Iterator[int]:
    size = 64
    while size <= largest:
        yield size
        size = _size_class(size + 1)


# Small blocks are poisoned beyond what the warm-up needed.
_SPARE_SIZE, _SPARES = 1024, 8


@contextmanager
def free_blocks_poisoned(warm_up: Callable[[], Any], largest: int = 1 << 20) -> Iterator[None]:
    """Inside, all memory that ``warm_up`` took from the allocator and gave back is NaN.

    Args:
        warm_up: The call to be tested, or one with the same shapes.
        largest: Size in bytes of the largest block that is poisoned.
    """
    _core.trim_memory()
    warm_up()
    held = []
    for size in _size_classes(largest):
        # Bits that are NaN in float32, bfloat16 and float64 alike, and -1 in the integers.
        poison = np.full(size // 4, 0xFFFFFFFF, np.uint32).view(np.float32)
        while True:  # takes the cached blocks of this size, one by one, and a last fresh one
            before = _core.memory_stats()["system_allocations"]
            held.append(_core.clone(poison))
            if _core.memory_stats()["system_allocations"] > before:
                break
        if size <= _SPARE_SIZE:
            held.extend(_core.clone(poison) for _ in range(_SPARES))
    held.clear()
    yield


def guard_bytes(tensor: Any) -> bytes:
    """The bytes between the end of a Tensor and the end of its block, which nobody may write."""
    itemsize = {"float32": 4, "bfloat16": 2, "int64": 8, "uint8": 1}[tensor.dtype]
    size = int(np.prod(tensor.shape, dtype=np.int64)) * itemsize
    end = _core.data_pointer(tensor) + size
    return ctypes.string_at(end, _size_class(size) - size)
