"""gradcheck: gradients from the tape against finite differences of the float32 function itself.

With random weights w on the outputs, L(x) = sum w f(x) is summed in float64. Central differences
with steps h and h / 2, extrapolated, leave an error of h^4; the rounding of f leaves u |f| / h. The
tolerance is made of both, as estimated from the differences themselves, and of ``rtol``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.tensor import Tensor, no_grad, tensor

__all__ = ["gradcheck"]

Array = np.ndarray[Any, Any]
_U = 2.0**-24


class _Scalar:
    """L(x) = sum w f(x) in float64, and its size sum |w f(x)|, which rounding is relative to."""

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any], seed: int) -> None:
        self.f = f
        self.inputs = list(inputs)
        rng = np.random.default_rng(seed)
        with no_grad():
            outputs = self._outputs(self.inputs)
        self.weights = [np.asarray(rng.uniform(0.5, 1.5, y.shape), np.float32) for y in outputs]
        self.several = len(outputs) > 1

    def _outputs(self, inputs: Sequence[Any]) -> list[Array]:
        y = self.f(*inputs)
        items = y if isinstance(y, tuple) else (y,)
        return [np.array(item.detach(), np.float64) for item in items]

    def at(self, index: int, value: Array) -> tuple[float, float]:
        """L and its size with input ``index`` replaced."""
        inputs = list(self.inputs)
        inputs[index] = tensor(value.astype(np.float32))
        with no_grad():
            outputs = self._outputs(inputs)
        terms = [w * y for w, y in zip(self.weights, outputs, strict=True)]
        return float(sum(t.sum() for t in terms)), float(sum(np.abs(t).sum() for t in terms))

    def gradients(self) -> list[Array | None]:
        """What the tape says, for inputs that require a gradient."""
        fresh = [
            tensor(np.array(x.detach()), requires_grad=True)
            if isinstance(x, Tensor) and x.requires_grad
            else x
            for x in self.inputs
        ]
        y = self.f(*fresh)
        outputs = y if isinstance(y, tuple) else (y,)
        loss = None
        for weights, item in zip(self.weights, outputs, strict=True):
            part = (item * tensor(weights)).sum()
            loss = part if loss is None else loss + part
        assert loss is not None
        loss.backward()
        return [
            None
            if not (isinstance(x, Tensor) and x.requires_grad)
            else np.zeros(x.shape)
            if x.grad is None
            else np.array(x.grad, np.float64)
            for x in fresh
        ]


def _difference(scalar: _Scalar, index: int, x: Array, step: Array) -> tuple[float, float, float]:
    """(extrapolated change of L over the step, its error, the size of L)."""
    changes = []
    size = 0.0
    for factor in (1.0, 0.5):
        plus = (x + factor * step).astype(np.float32).astype(np.float64)
        minus = (x - factor * step).astype(np.float32).astype(np.float64)
        (l_plus, size), (l_minus, _) = scalar.at(index, plus), scalar.at(index, minus)
        changes.append((l_plus - l_minus) / (2 * factor))
    change = (4 * changes[1] - changes[0]) / 3
    return change, abs(changes[1] - changes[0]), size


def _mismatch(
    scalar: _Scalar, index: int, x: Array, step: Array, gradient: Array, rtol: float
) -> float:
    """By how much the tape's derivative along the step is outside the tolerance, relative to it."""
    change, truncation, size = _difference(scalar, index, x, step)
    expected = float((gradient * step).sum())
    scale = float((np.abs(gradient) * np.abs(step)).sum())
    # Each of four values of L is off by some ULP of its terms; the steps themselves are rounded.
    rounding = 32 * _U * size + 8 * _U * float((np.abs(gradient) * np.abs(x)).sum())
    tolerance = rtol * max(abs(change), scale) + truncation + rounding
    return abs(change - expected) / max(tolerance, 1e-300)


def gradcheck(
    f: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-2,
    rtol: float = 1e-2,
    max_elements: int = 64,
    seed: int = 0,
) -> bool:
    """Check the gradients of a function of float32 Tensors by finite differences.

    The outputs are weighted by random numbers and summed in float64; every input that requires a
    gradient is moved element by element, and along a random direction. The tolerance is ``rtol``
    plus what rounding and curvature explain; away from kinks (as of relu at 0) a correct gradient
    passes and one that is a few percent off does not.

    Args:
        f: Takes the inputs, returns a Tensor or a tuple of them. It has to be a function: seed
            dropout inside it, or leave it out.
        inputs: A Tensor or several; those with ``requires_grad`` are checked.
        eps: Size of the steps, relative to max(1, |x|).
        rtol: Relative tolerance.
        max_elements: How many elements of each input are moved one by one: all, or a random choice.
        seed: Of weights, directions and choice.

    Returns:
        True.

    Raises:
        AssertionError: Naming the input, the element, its gradient and the finite difference.
        ValueError: If no input requires a gradient.

    Example:
        >>> import fastnn as fn
        >>> x = fn.tensor([[0.5, -1.0]], requires_grad=True)
        >>> fn.gradcheck(fn.functional.tanh, x)
        True
    """
    items = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(items) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: expected an input that requires a gradient, got none")
    scalar = _Scalar(f, items, seed)
    gradients = scalar.gradients()
    rng = np.random.default_rng(seed + 1)
    for index in checked:
        x = np.array(items[index].detach(), np.float64)
        gradient = gradients[index]
        assert gradient is not None
        _check_elements(scalar, index, x, gradient, eps, rtol, max_elements, rng)
        direction = rng.choice([-1.0, 1.0], x.shape) * eps * np.maximum(1.0, np.abs(x))
        if x.size and _mismatch(scalar, index, x, direction, gradient, rtol) > 1:
            change, _, _ = _difference(scalar, index, x, direction)
            raise AssertionError(
                f"gradcheck: input {index}: the derivative along a random direction is "
                f"{float((gradient * direction).sum())!s} by backward, {change!s} by finite "
                "differences, though the elements that were tried one by one agree"
            )
    return True


def _check_elements(
    scalar: _Scalar,
    index: int,
    x: Array,
    gradient: Array,
    eps: float,
    rtol: float,
    max_elements: int,
    rng: np.random.Generator,
) -> None:
    chosen = np.arange(x.size)
    if x.size > max_elements:
        chosen = np.sort(rng.choice(x.size, max_elements, replace=False))
    for flat in chosen:
        at = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        step = np.zeros_like(x)
        step[at] = eps * max(1.0, abs(x[at]))
        if _mismatch(scalar, index, x, step, gradient, rtol) > 1:
            change, _, _ = _difference(scalar, index, x, step)
            raise AssertionError(
                f"gradcheck: input {index}, element {at}: expected a gradient near "
                f"{change / step[at]:.6g} (finite differences), got {gradient[at]:.6g}"
            )
