"""Philox4x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written out.

With 10 rounds it is the paper's recommendation, whose known answers are published with Random123;
fastnn uses 7, which the paper found to pass BigCrush too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint32]]

ROUNDS = 7
STREAMS = {"init": 0, "shuffle": 1, "dropout": 2, "augment": 3}

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(counter: np.ndarray[Any, Any], key: tuple[int, int], rounds: int = ROUNDS) -> Words:
    """Encrypt counters of four 32-bit words, shape (n, 4), with a key of two."""
    c = [np.asarray(counter)[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = _M0 * c[0], _M1 * c[2]
        c = [
            (product1 >> _32) ^ c[1] ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _32) ^ c[3] ^ np.uint64(k1),
            product0 & _LOW,
        ]
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.uint32)


def blocks(count: int, stream: str, offset: int, seed: int, first: int = 0) -> Words:
    """The words of blocks first, first + 1, ... of one draw: shape (count, 4)."""
    block = np.arange(first, first + count, dtype=np.uint64)
    full = STREAMS[stream] << 56 | offset
    counter = np.empty((count, 4), np.uint64)
    counter[:, 0], counter[:, 1] = block & _LOW, block >> _32
    counter[:, 2], counter[:, 3] = full & 0xFFFFFFFF, full >> 32
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))


def dropout_mask(n: int, p: float, seed: int, offset: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True where element e is kept: its 16-bit lane, low half of each word first, is >= 65536 p."""
    words = blocks(-(-n // 8), "dropout", offset, seed).reshape(-1)
    lanes = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=1).reshape(-1)[:n]
    return np.asarray(lanes >= threshold(p))


def threshold(p: float) -> int:
    """65536 p, rounded half up."""
    return int(np.floor(p * 65536 + 0.5))


def uniform(n: int, lo: float, hi: float, seed: int, offset: int) -> np.ndarray[Any, Any]:
    """lo + (hi - lo) u, u the top 24 bits of word e, in float64."""
    words = blocks(-(-n // 4), "init", offset, seed).reshape(-1)[:n]
    return lo + (hi - lo) * ((words >> np.uint32(8)).astype(np.float64) / 2.0**24)


def permutation(n: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order that sorts the first 64 bits of block i, i < n, but for as many as n - 1 has."""
    words = blocks(n, "shuffle", epoch, seed).astype(np.uint64)
    keys = (words[:, 1] << _32 | words[:, 0]) >> np.uint64(max(n - 1, 0).bit_length())
    return np.argsort(keys, kind="stable").astype(np.int64)
