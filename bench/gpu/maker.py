"""What cases of a GPU benchmark are made of: numbers on both sides, and ways of doing a thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastnn as fn
import numpy as np

__all__ = ["Array", "Case", "Maker", "Ways"]

Ways = dict[str, Callable[[], Any]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One thing to measure: ``make`` gives the ways of doing it, "fastnn" and its peers by name.

    ``bytes`` is what has to be read and written at least, ``flops`` the arithmetic.
    """

    goal: str
    title: str
    make: Callable[[], Ways]
    bytes: float = 0.0
    flops: float = 0.0


class Maker:
    """Arrays for fastnn and for torch, where there is torch.

    Args:
        fake: Tiny shapes; torch on the CPU and not compiled.
    """

    def __init__(self, fake: bool) -> None:
        self.fake = fake
        try:
            import torch
        except ImportError:
            self.torch: Any = None
        else:
            self.torch = torch if fake or torch.cuda.is_available() else None
        self._flag = fn.tensor([0.0], device="cuda")

    def size(self, real: int, tiny: int) -> int:
        """The size of an axis."""
        return tiny if self.fake else real

    def numbers(self, *shape: int) -> Array:
        """Normal draws."""
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    def ours(self, x: Array, dtype: str = "bfloat16", grad: bool = False) -> Any:
        """A Tensor on the device."""
        return fn.tensor(x, dtype=dtype, device="cuda", requires_grad=grad)

    def theirs(self, x: Array, dtype: str = "bfloat16", grad: bool = False) -> Any:
        """The same for torch."""
        t = self.torch.as_tensor(x).to("cpu" if self.fake else "cuda", getattr(self.torch, dtype))
        return t.detach().requires_grad_(grad)

    def wait(self) -> None:
        """Until both are done."""
        self._flag.to("cpu")
        if self.torch is not None and not self.fake:
            self.torch.cuda.synchronize()

    def ways(self, ours: Callable[[], Any], theirs: Callable[[], Callable[..., Any]]) -> Ways:
        """fastnn's way, and torch's as it is and compiled; ``theirs`` makes torch's."""
        ways: Ways = {"fastnn": ours}
        if self.torch is not None:
            ways["torch eager"] = theirs()
            if not self.fake:
                ways["torch compile"] = self.torch.compile(theirs())
        return ways
