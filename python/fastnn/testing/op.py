"""What a row of the op table is, and what rows share: how inputs are drawn, shapes and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Bound, Grads, Sample
from fastnn.testing.compare import round_to

Array = np.ndarray[Any, Any]
Shapes = tuple[tuple[int, ...] | None, ...]
Case = tuple[Shapes, dict[str, Any]]
Inputs = tuple[Array | None, ...]
Make = Callable[[np.random.Generator, Shapes], Inputs]

__all__ = ["Bad", "Bench", "Inputs", "Op", "Sample", "joined"]


class Bad(NamedTuple):
    """A wrong call, the exception it has to raise, and the exact message."""

    call: Callable[[], Any]
    error: type[Exception]
    message: str


class Bench(NamedTuple):
    """Shapes worth timing, and (elements moved, floating-point operations) of a forward call.

    ``params`` are the other arguments for each of the shapes, where they are not the row's first.
    """

    shapes: tuple[Shapes, ...]
    cost: Callable[[Shapes], tuple[int, int]]
    params: tuple[dict[str, Any], ...] = ()


def joined(y: Any) -> Any:
    """Several results as one vector, one as it is."""
    return F.cat([part.reshape(-1) for part in y]) if isinstance(y, tuple) else y


@dataclass(frozen=True)
class Op:
    """One differentiable op.

    Attributes:
        name: Path of the function; its first argument is given by position.
        family: The stem that its files share in every layer.
        arrays: Names of the array arguments after the first.
        reference: Oracle and its vjp.
        covers: Entries of ``struct Kernels`` and classes of ``fastnn.nn`` that the row tests.
        params: Sets of the other arguments.
        shapes: Shapes of the array arguments (None: the argument is None), a case each.
        tail: (shapes, params) of the case with rows of n elements, n = 0, 1, ...; or None.
        pairs: More cases, as (shapes, params), for params that depend on the shapes.
        dtypes: Storage dtypes.
        make: Draws inputs of these shapes in the op's domain.
        bound: Largest allowed error, from the oracle's values (its type is in ``bounds.py``).
        bench: What to time.
        bad: Wrong calls.
        cuda: None where the CUDA library has it, else "pending: why".
        cuda_dtypes: The dtypes that it has there, where they are not the same; empty if they are.
        large: A case that is worth several threads: more tasks than one, each of some cost.
        layout: What a channels-last first input gives: "nchw", the order of the shape; "nhwc"; or
            "memory", channels-last element by element, as if the shape were (n, h, w, c).
        xfail: Reason per test template that the op is known to fail.
    """

    name: str
    family: str
    arrays: tuple[str, ...]
    reference: tuple[Callable[..., Array], Callable[..., Grads]]
    covers: tuple[str, ...]
    params: tuple[dict[str, Any], ...]
    shapes: tuple[Shapes, ...]
    tail: Callable[[int], Case] | None
    make: Make
    bound: Bound
    bench: Bench
    bad: tuple[Bad, ...] = ()
    pairs: tuple[Case, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    cuda: str | None = None
    cuda_dtypes: tuple[str, ...] = ()
    large: Case | None = None
    layout: str = "nchw"
    xfail: Mapping[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name without its module."""
        return self.name.rpartition(".")[2].strip("_")

    @property
    def is_loss(self) -> bool:
        """Whether the result is float32 and the second input a target, which has no gradient."""
        return self.family in ("loss", "margin")

    @property
    def cases(self) -> list[Case]:
        """All (shapes, params) to test."""
        return [(s, p) for p in self.params for s in self.shapes] + list(self.pairs)

    def bind(self, *inputs: Any, **params: Any) -> Callable[[], Any]:
        """The op's own call with these Tensors or arrays, to be made without more ado."""
        function: Any = reduce(getattr, self.name.split(".")[1:], fastnn)
        named = {k: v for k, v in zip(self.arrays, inputs[1:], strict=True) if v is not None}
        return partial(function, inputs[0], **named, **params)

    def call(self, *inputs: Any, **params: Any) -> Any:
        """Call the op with Tensors or arrays; several results become one vector."""
        return joined(self.bind(*inputs, **params)())

    def generator(self, seed: int = 0) -> np.random.Generator:
        """Where samples come from: every op has numbers of its own."""
        return np.random.default_rng([seed, len(self.name), *map(ord, self.name)])

    def draw(self, rng: np.random.Generator, shapes: Shapes, dtype: str) -> Inputs:
        """Inputs of these shapes, rounded to the dtype."""
        return tuple(
            None if x is None else x if x.dtype.kind in "iu" else round_to(x, dtype)
            for x in self.make(rng, shapes)
        )

    def sample(self, shapes: Shapes, params: dict[str, Any], dtype: str, seed: int = 0) -> Sample:
        """Draw inputs and ask the oracle."""
        rng = self.generator(seed)
        return self.sample_of(self.draw(rng, shapes, dtype), params, dtype, rng)

    def sample_of(
        self, inputs: Inputs, params: dict[str, Any], dtype: str, rng: np.random.Generator
    ) -> Sample:
        """Ask the oracle about given inputs."""
        forward, vjp = self.reference
        with np.errstate(invalid="ignore"):  # infinities in the inputs
            y = np.asarray(forward(*inputs, **params), np.float64)
            dy = self.draw_dy(rng, y.shape, dtype)
            return Sample(inputs, params, dtype, dy, y, vjp(dy, *inputs, **params))

    def draw_dy(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        """The gradient of a result of this shape; never 0."""
        dy = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        # A loss is float32 whatever its input is, and so is its gradient.
        return np.asarray(round_to(dy, "float32" if self.is_loss else dtype))


# ---- inputs --------------------------------------------------------------------------------------


def normal(scale: float = 1.0) -> Make:
    def make(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
        return tuple(None if s is None else scale * rng.standard_normal(s) for s in shapes)

    return make


def zeros(*shape: int) -> Array:
    """Zeros of float32."""
    return np.zeros(shape, np.float32)


# ---- shapes --------------------------------------------------------------------------------------

UNARY: tuple[Shapes, ...] = (
    ((),),
    ((0,),),
    ((1,),),
    ((3, 0, 2),),
    ((5, 7),),
    ((2, 3, 4, 5),),
    ((40_001,),),
)


def size(shape: tuple[int, ...] | None) -> int:
    return 0 if shape is None else int(np.prod(shape, dtype=np.int64))


def map_cost(flops: int) -> Callable[[Shapes], tuple[int, int]]:
    """Every input is read and an output of the first one's size written."""
    return lambda s: (sum(map(size, s)) + size(s[0]), flops * size(s[0]))
