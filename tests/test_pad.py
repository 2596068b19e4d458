"""Axes that are padded at once, and those that are not because the index would be too long."""

from __future__ import annotations

import math
from typing import Any

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.functional import shape
from fastnn.testing.reference import shape as reference

WIDTHS = ((1, 2, 2, 1), (1, 0, 0, 0, 2, 1), (-1, 2, 3, -2, 0, 0, 1, 1))


def both(x: Any, pad: tuple[int, ...], mode: str) -> tuple[Any, Any]:
    """What padding gives, and the gradient of whole numbers, whose sums are exact."""
    leaf = fn.tensor(x, requires_grad=True)
    y = F.pad(leaf, pad, mode, 0.5)
    y.backward(fn.tensor(np.arange(math.prod(y.shape), dtype=np.float32).reshape(y.shape) % 64))
    return np.array(y.detach()), np.array(leaf.grad)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", WIDTHS)
@pytest.mark.parametrize("most", [1, 40, 1 << 16])  # axes one by one, some of them, all at once
def test_axes_at_once(
    mode: str, pad: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape, "_PADDED_AT_ONCE", {"constant": most})
    monkeypatch.setattr(shape, "_SORTED_AT_ONCE", most)
    x = np.random.default_rng(0).normal(size=(4, 5, 6, 7)).astype(np.float32)
    y, dx = both(x, pad, mode)
    np.testing.assert_array_equal(y, reference.pad(x, pad, mode, 0.5))
    dy = (np.arange(y.size) % 64).reshape(y.shape).astype(float)
    np.testing.assert_array_equal(dx, reference.pad_vjp(dy, x, pad, mode)[0])


def test_groups() -> None:
    def groups(pad: tuple[int, ...], most: int) -> list[Any]:
        return list(shape._pad_groups((4, 5, 6, 7), pad, most))

    assert groups((0, 0, 0, 0), 99) == []
    assert groups((1, 2, 2, 1), 90) == [(2, [(2, 1), (1, 2)])]
    assert groups((1, 2, 2, 1), 89) == [(3, [(1, 2)]), (2, [(2, 1)])]
    assert groups((1, 0, 0, 0, 2, 1), 999) == [(3, [(1, 0)]), (1, [(2, 1)])]
