"""How far float32 kernels may be from the float64 oracle: what a bound is.

A bound takes a Sample (inputs, dy, and the oracle's answers) and returns the largest absolute
error of the output and of each gradient. An op's bound stands with its row, in ops/<family>.py, and
what its figures are made of next to them; they are the contract of docs/design.md (u is 2^-24). For
bfloat16 the caller adds the rounding of the stored result, and ``store`` is the unit roundoff of
whatever forward stored for backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.testing.compare import U, ulp, unit_roundoff
from fastnn.testing.reference.linear import Activation, activate

Array = np.ndarray[Any, Any]
Grads = tuple[Array | None, ...]


@dataclass(frozen=True)
class Sample:
    """One call of an op: inputs already rounded to the dtype, and the oracle's answers to them."""

    inputs: tuple[Array | None, ...]
    params: dict[str, Any]
    dtype: str
    dy: Array
    y: Array
    grads: Grads

    @property
    def store(self) -> float:
        """Relative error of what forward stored: 0 for float32, which the bounds include."""
        return 0.0 if self.dtype == "float32" else unit_roundoff(self.dtype)


Bound = Callable[[Sample], tuple[Array, Grads]]


def with_storage(bound: Array, oracle: Array, dtype: str) -> Array:
    """The bound of a result that is computed in float32, then rounded to its storage dtype."""
    if dtype == "float32":
        return bound
    # Half a unit in the last place of a number of 8 bits; 2^-134 where it is subnormal.
    return np.asarray(bound + U_STORE * (np.abs(oracle) + bound) + 2.0**-134)


U_STORE = unit_roundoff("bfloat16")


def exact(s: Sample) -> tuple[Array, Grads]:
    """Every operation is exact, or is the oracle's own one rounded once (half an ULP)."""
    return 0.5 * ulp(s.y), tuple(None if g is None else 0.5 * ulp(g) for g in s.grads)


# Largest |f'| and |f''| of the activations that ops fuse (selu has the steepest slope at 0-).
STEEPEST, CURVED = 1.76, 1.76
_KINKED = ("relu", "leaky_relu", "selu", "elu")


def activated(
    z: Array, z_error: Array, s: Sample, activation: Activation
) -> tuple[Array, Array, Array]:
    """What the activation after z makes of z's error: bounds of y and of d = dy act'(z), and |d|.

    An activation passes z's error on with its slope, and adds its own 4 ULP; its derivative is off
    by its curvature times z's error, and all of it next to a kink."""
    dy = np.abs(s.dy)
    if activation is None:
        return z_error, np.zeros_like(dy), dy
    name = activation[0] if isinstance(activation, tuple) else activation
    wrong_side = (name in _KINKED) & (np.abs(z) <= z_error)
    d_error = dy * (CURVED * z_error + 9 * U + STEEPEST * wrong_side)
    d = dy * np.abs(activate(z, activation)[1]) + d_error
    return STEEPEST * z_error + 4 * ulp(s.y), d_error, d


def rounded(z: Array, d_error: Array, d: Array, s: Sample) -> Array:
    """d's error where what the derivative is of was stored in the sample's dtype, and d was too."""
    return np.asarray(
        d_error + s.store * (np.abs(s.dy) * (CURVED * np.abs(z) + 2 * np.abs(s.y)) + d)
    )
