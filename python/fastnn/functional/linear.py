"""linear, with what follows it fused into it, and products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core, _rules, random
from fastnn.functional.activation import Activation, resolve_activation
from fastnn.tape import Passed
from fastnn.tensor import Rule, Tensor, Vjp, apply, as_tensor, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def make_rule(name: str, forward: Any, backward: Any) -> Rule:
    """The rule of a linear layer, or of several at once (stacked.py), from its kernels."""

    def rule(
        x: Any, w: Any, b: Any, *, kind: int, saves_output: bool, a: float, recording: bool
    ) -> tuple[Any, Vjp]:
        save_z = recording and kind != 0 and not saves_output
        y, z = forward(x, w, b, kind, a, save_z)
        saved = None if kind == 0 else y if saves_output else z

        def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
            dx, dw, db = backward(dy, x, w, saved, kind, a, *needs)
            return dx, dw, db

        return y, vjp

    rule.__name__ = name
    return rule


_linear = make_rule("linear", _core.linear_fwd, _core.linear_bwd)


def _linear_ending(
    x: Any, w: Any, b: Any, r: Any, *, kind: int, saves_output: bool, a: float, save: bool, p: float
) -> tuple[Any, Vjp]:
    generator = random.generator("dropout", x.device) if p else None
    # Without dropout the output itself is saved; with it, what dropout is of.
    after = saves_output and p != 0
    keep = save and kind != 0 and (after or not saves_output)
    y, saved, draw = _core.linear_ending_fwd(x, w, b, r, kind, a, keep, after, generator, p)
    if kind != 0 and saves_output and not after:
        saved = y

    def vjp(dy: Any, needs: tuple[bool, ...], passage: Any = None) -> tuple[Any, ...]:
        dx: Any = None
        db, of, activation = None, saved, kind
        if isinstance(dy, Passed):
            dz, db, of, activation = dy.dz, dy.db, None, 0
        else:
            dz = dy if draw is None else _core.dropout(dy, draw, p, True, None)
            if r is not None and kind != 0:
                dz, of, activation = _core.activation_bwd(dz, saved, kind, a), None, 0
        need_db = needs[2] and db is None
        if passage is None:
            dx, dw, sums = _core.linear_bwd(
                dz, x, w, of, activation, a, needs[0], needs[1], need_db
            )
        else:
            *passed, dw, sums, db_before = _core.linear_chain_bwd(
                dz, x, w, of, activation, a, needs[1], need_db, passage
            )
            dx = Passed(passed[0], db_before)
        return dx, dw, sums if db is None else db, dz

    if save and x.device != "cpu" and 0 not in y.shape:
        asked = getattr(b, "requires_grad", False)
        vjp.passage = saved, kind, a, draw, p, asked  # type: ignore[attr-defined]
        vjp.takes = "linear"  # type: ignore[attr-defined]
    return y, vjp


_linear_ending.__name__ = "linear"


def linear(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    *,
    activation: Activation = None,
    residual: ArrayLike | Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """dropout(act(x W^T + b + r)) over the last axis, in one pass.

    Arrays are all float32 or all bfloat16, on CUDA all float16 as well. Sums are float32 in any
    case, and a 16-bit result is rounded once, after the activation. On the CPU a float32 row has
    the same bits in any batch. :class:`fastnn.autocast` makes arrays bfloat16.

    Args:
        input: Array of shape (..., in).
        weight: Array of shape (out, in).
        bias: Array of shape (out,), or None.
        activation: Name of an activation, or (name, parameter), applied before the result is
            stored; its derivative and the bias gradient are fused in backward.
        residual: The r, of the result's shape, added as in :func:`add`; or None.
        dropout_p: Probability of dropping each element of the result; 0 draws nothing. Drops
            what :func:`dropout` after it would.

    Returns:
        Tensor of shape (..., out).

    Raises:
        ValueError: If the shapes do not fit, or dropout_p is not in [0, 1]. Nothing is drawn then.
        TypeError: If a dtype is neither float32 nor bfloat16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.linear([[1.0, 2.0]], [[1.0, 1.0]], [-5.0], activation="relu").numpy()
        array([[0.]], dtype=float32)
    """
    kind, saves_output, a = resolve_activation("linear", activation)
    options = {"kind": kind, "saves_output": saves_output, "a": a}
    recording = is_grad_enabled()
    on_cuda = getattr(input, "device", "cpu") != "cpu"  # where layers pass gradients on
    if residual is None and dropout_p == 0 and not on_cuda:
        return apply(_linear, input, weight, bias, recording=recording, **options)
    inputs = as_tensor(input), weight, bias, residual
    return apply(_linear_ending, *inputs, save=recording, p=float(dropout_p), **options)


def matmul(input: ArrayLike | Tensor, other: ArrayLike | Tensor) -> Tensor:
    """The product over the last two axes; leading axes broadcast. Also ``input @ other``.

    y_ij = sum_k input_ik other_kj for every index of the leading axes. An axis of size 1 or a
    missing one is repeated for the other array, and its gradient is the sum over it. A vector is a
    row as input, a column as other, and its axis is not in the result. Every product of a batch has
    the bits that it has alone.

    Args:
        input: Array of shape (..., m, k) or (k,).
        other: Array of shape (..., k, n) or (k,).

    Returns:
        Tensor of shape (..., m, n), without m or n for a vector.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a dtype is neither float32 nor bfloat16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> fn.matmul(fn.ones(5, 1, 2, 3), fn.ones(4, 3, 6)).shape
        (5, 4, 2, 6)
        >>> fn.matmul([1.0, 2.0], [3.0, 4.0]).item()
        11.0
    """
    return _rules.matmul(as_tensor(input), other)


def bmm(input: ArrayLike | Tensor, mat2: ArrayLike | Tensor) -> Tensor:
    """The products of two batches of matrices: :func:`matmul` without broadcasting.

    y_b = input_b mat2_b for every b.

    Args:
        input: Array of shape (b, m, k).
        mat2: Array of shape (b, k, n).

    Returns:
        Tensor of shape (b, m, n).

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a dtype is neither float32 nor bfloat16, or they differ.

    Example:
        >>> import fastnn as fn
        >>> fn.bmm(fn.ones(4, 2, 3), fn.ones(4, 3, 5)).shape
        (4, 2, 5)
    """
    x, z = as_tensor(input), as_tensor(mat2)
    if not (x.ndim == z.ndim == 3 and x.shape[0] == z.shape[0] and x.shape[2] == z.shape[1]):
        raise ValueError(
            f"bmm: expected shapes (b, m, k) and (b, k, n), got input {x.shape} and mat2 {z.shape}"
        )
    return _rules.matmul(x, z)
