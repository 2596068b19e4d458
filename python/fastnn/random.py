"""Seeds and generators. A generator is (seed, offset) in memory; each use counts the offset up.

Four streams, told apart by the top byte of the offset, never draw the same numbers: initialisation,
shuffling, dropout and augmentation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import _core
from fastnn._checks import check_whole
from fastnn.tensor import Tensor

__all__ = ["generator", "get_state", "manual_seed", "permutation", "set_state", "uniform"]

_STREAMS = {"init": 0, "shuffle": 1, "dropout": 2, "augment": 3}
_OFFSET_MASK = (1 << 56) - 1
_generators: dict[str, Any] = {}


def manual_seed(seed: int) -> None:
    """Seed every generator; what is drawn afterwards depends on the seed alone.

    Args:
        seed: 0 <= seed < 2**64.

    Raises:
        ValueError: If the seed is out of range.

    Example:
        >>> import fastnn as fn
        >>> fn.manual_seed(0)
    """
    check_whole("manual_seed", seed=seed)
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"manual_seed: expected 0 <= seed < 2**64, got {seed}")
    for name in _STREAMS:
        _set(name, seed, 0)


def generator(stream: str, device: str = "cpu") -> Tensor:
    """The state of a stream: one of 'init', 'shuffle', 'dropout', 'augment'.

    It moves to the device that draws from it, so what is drawn does not depend on the device.

    Example:
        >>> from fastnn import random
        >>> random.generator("dropout").shape
        (2,)
    """
    if not _generators:
        manual_seed(0)
    if _generators[stream].device != device:
        _generators[stream] = _core.move_generator(_generators[stream], device)
    result: Tensor = _generators[stream]
    return result


def get_state() -> dict[str, list[int]]:
    """(seed, offset) of every stream, to be saved with a checkpoint.

    Example:
        >>> import fastnn as fn
        >>> fn.manual_seed(3)
        >>> fn.random.get_state()["init"]
        [3, 0]
    """
    generator("init")  # there are generators
    state = {}
    for name, words in _generators.items():
        seed, offset = (int(v) & (1 << 64) - 1 for v in np.asarray(words.to("cpu")))
        state[name] = [seed, offset & _OFFSET_MASK]
    return state


def set_state(state: dict[str, list[int]]) -> None:
    """Continue from what :func:`get_state` returned.

    Example:
        >>> import fastnn as fn
        >>> fn.random.set_state(fn.random.get_state())
    """
    for name in _STREAMS:
        seed, offset = state[name]
        _set(name, seed, offset)


def permutation(n: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of n samples in an epoch: sorted by a Philox key of (seed, epoch, sample).

    The low bits of the keys, as many as n - 1 has, are the samples' own numbers.

    Example:
        >>> import fastnn as fn
        >>> sorted(fn.random.permutation(4, seed=0, epoch=1).tolist())
        [0, 1, 2, 3]
    """
    # Numbers within the keys: sorting is a third of the time of argsort, and no two are equal.
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    keys = _keys(n, seed, epoch) & ~low | np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & low).view(np.int64)


def uniform(n: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """n numbers in [0, 1) for an epoch: the upper 53 bits of the keys that order it.

    Example:
        >>> import fastnn as fn
        >>> draws = fn.random.uniform(1000, seed=0, epoch=1)
        >>> bool(0 <= draws.min() and draws.max() < 1)
        True
    """
    return (_keys(n, seed, epoch) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@contextlib.contextmanager
def dropout_from(state: Tensor) -> Iterator[None]:
    """Inside, dropout draws from this generator instead of the common one.

    Args:
        state: (seed, offset) in memory, which each draw counts up.

    Example:
        >>> import fastnn as fn
        >>> from fastnn import random
        >>> with random.dropout_from(random.generator("dropout")):
        ...     fn.nn.Dropout()(fn.ones(2, 3)).shape
        (2, 3)
    """
    common = generator("dropout")
    _generators["dropout"] = state
    try:
        yield
    finally:
        _generators["dropout"] = common


def _keys(n: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.asarray(_core.shuffle_keys(n, seed, epoch)).view(np.uint64)


def _set(name: str, seed: int, offset: int) -> None:
    # In place: recorded steps refer to this memory.
    if name in _generators:
        _core.set_generator(_generators[name], seed, _STREAMS[name], offset)
    else:
        _generators[name] = _core.make_generator(seed, _STREAMS[name], offset)
