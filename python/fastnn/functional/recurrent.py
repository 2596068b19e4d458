"""Recurrent layers: one layer in one direction over a sequence, or one step of it.

``fastnn.nn`` stacks them. The input is (steps, batch, features). The products with all inputs are
one; each step is one with the state, and a kernel for the rest of the cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Whether a GRU's reset gate is applied after the product with the state, and 1 where its z is the
# part of the state that stays, -1 where it is the part that is new.
CONVENTIONS = {"torch": (True, 1.0), "cho": (False, 1.0), "lectures": (False, -1.0)}


def _rnn(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h_0: Any,
    *, lengths: Any, reverse: bool, kind: int,
) -> tuple[Any, Vjp]:  # fmt: skip
    y, h_n, h = _core.rnn_fwd(x, (w_ih, w_hh, b_ih, b_hh), h_0, lengths, reverse, kind)

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        (dy, dh_n), weights = dys, (w_ih, w_hh, b_ih, b_hh)
        return tuple(_core.rnn_bwd(dy, dh_n, x, weights, h_0, lengths, reverse, kind, h, needs))

    return (y, h_n), vjp


def _lstm(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h_0: Any, c_0: Any,
    *, lengths: Any, reverse: bool,
) -> tuple[Any, Vjp]:  # fmt: skip
    weights = w_ih, w_hh, b_ih, b_hh
    y, h_n, c_n, h, c, gates = _core.lstm_fwd(x, weights, h_0, c_0, lengths, reverse)

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        (dy, dh_n, dc_n), weights = dys, (w_ih, w_hh, b_ih, b_hh)
        return tuple(
            _core.lstm_bwd(
                dy, dh_n, dc_n, x, weights, h_0, c_0, lengths, reverse, h, c, gates, needs
            )
        )

    return (y, h_n, c_n), vjp


def _layer_norm_lstm(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h_0: Any, c_0: Any,
    gain_ih: Any, gain_hh: Any, gain_c: Any, b_c: Any,
    *, lengths: Any, reverse: bool, eps: float,
) -> tuple[Any, Vjp]:  # fmt: skip
    given = (x, (w_ih, w_hh, b_ih, b_hh), (gain_ih, gain_hh, gain_c, b_c), h_0, c_0)
    y, h_n, c_n, *rest = _core.layer_norm_lstm_fwd(*given, lengths, reverse, eps)
    saved = tuple(rest)

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dy, dh_n, dc_n = dys
        x, weights, norms, h_0, c_0 = given
        return tuple(
            _core.layer_norm_lstm_bwd(
                dy, dh_n, dc_n, x, weights, norms, h_0, c_0, lengths, reverse, eps, saved, needs
            )
        )

    return (y, h_n, c_n), vjp


def _gru(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h_0: Any,
    *, lengths: Any, reverse: bool, after: bool, sign: float,
) -> tuple[Any, Vjp]:  # fmt: skip
    weights = w_ih, w_hh, b_ih, b_hh
    y, h_n, h, gates, hidden = _core.gru_fwd(x, weights, h_0, lengths, reverse, after, sign)

    def vjp(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        (dy, dh_n), weights = dys, (w_ih, w_hh, b_ih, b_hh)
        return tuple(
            _core.gru_bwd(
                dy, dh_n, x, weights, h_0, lengths, reverse, after, sign, h, gates, hidden, needs
            )
        )

    return (y, h_n), vjp


def _lengths(lengths: Any) -> Any:
    return None if lengths is None else as_tensor(lengths)


def resolve_nonlinearity(op: str, nonlinearity: str) -> int:
    """The index of a plain cell's activation.

    Example:
        >>> from fastnn.functional.recurrent import resolve_nonlinearity
        >>> resolve_nonlinearity("rnn", "relu")
        1
    """
    known = _core.RNN_NONLINEARITIES
    if nonlinearity not in known:
        names = ", ".join(repr(name) for name in known)
        raise ValueError(f"{op}: expected nonlinearity to be one of {names}, got {nonlinearity!r}")
    return int(known[nonlinearity])


def resolve_convention(op: str, convention: str) -> tuple[bool, float]:
    """What a convention of the GRU means: see :data:`CONVENTIONS`.

    Example:
        >>> from fastnn.functional.recurrent import resolve_convention
        >>> resolve_convention("gru", "lectures")
        (False, -1.0)
    """
    if convention not in CONVENTIONS:
        names = ", ".join(repr(name) for name in CONVENTIONS)
        raise ValueError(f"{op}: expected convention to be one of {names}, got {convention!r}")
    return CONVENTIONS[convention]


def rnn(
    input: ArrayLike | Tensor,
    weight_ih: ArrayLike | Tensor,
    weight_hh: ArrayLike | Tensor,
    bias_ih: ArrayLike | Tensor | None = None,
    bias_hh: ArrayLike | Tensor | None = None,
    h_0: ArrayLike | Tensor | None = None,
    *,
    lengths: ArrayLike | Tensor | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) over a sequence.

    Args:
        input: Array of shape (steps, batch, features).
        weight_ih: Array of shape (hidden, features).
        weight_hh: Array of shape (hidden, hidden).
        bias_ih: Array of shape (hidden,), or None.
        bias_hh: The same.
        h_0: The state before the first step, (batch, hidden); None for zeros.
        lengths: int64 of shape (batch,): how many steps each row has. Past them the output is 0 and
            the state stays; what the input holds there does not matter, but it has to be finite.
            None: all rows have all steps.
        reverse: Whether time runs backwards, for each row from its own end.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Returns:
        (output, h_n): the states of all steps, (steps, batch, hidden), and the last one, (batch,
        hidden).

    Raises:
        ValueError: If shapes do not fit, or a length is not in [0, steps].
        TypeError: If a dtype is not float32, or lengths are not int64.

    Example:
        >>> import fastnn as fn
        >>> output, h_n = fn.functional.rnn(fn.ones(5, 2, 3), fn.ones(4, 3), fn.zeros(4, 4))
        >>> output.shape, h_n.shape
        ((5, 2, 4), (2, 4))

    Source:
        Elman 1990, "Finding structure in time".
    """
    result: Any = apply(
        _rnn, input, weight_ih, weight_hh, bias_ih, bias_hh, h_0,
        lengths=_lengths(lengths), reverse=reverse, kind=resolve_nonlinearity("rnn", nonlinearity),
    )  # fmt: skip
    return result  # type: ignore[no-any-return]


def lstm(
    input: ArrayLike | Tensor,
    weight_ih: ArrayLike | Tensor,
    weight_hh: ArrayLike | Tensor,
    bias_ih: ArrayLike | Tensor | None = None,
    bias_hh: ArrayLike | Tensor | None = None,
    h_0: ArrayLike | Tensor | None = None,
    c_0: ArrayLike | Tensor | None = None,
    *,
    lengths: ArrayLike | Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory over a sequence.

    With i, f, g, o the four parts of W_ih x_t + b_ih + W_hh h_(t-1) + b_hh, sigma applied to i, f
    and o, and tanh to g:  c_t = f c_(t-1) + i g,  h_t = o tanh(c_t).

    Args:
        input: Array of shape (steps, batch, features).
        weight_ih: Array of shape (4 hidden, features), the gates in the order i, f, g, o.
        weight_hh: Array of shape (4 hidden, hidden).
        bias_ih: Array of shape (4 hidden,), or None.
        bias_hh: The same.
        h_0: The state before the first step, (batch, hidden); None for zeros.
        c_0: The cell's state before the first step, likewise.
        lengths: As in :func:`rnn`.
        reverse: As in :func:`rnn`.

    Returns:
        (output, h_n, c_n): h of all steps, (steps, batch, hidden), and the last h and c, (batch,
        hidden).

    Raises:
        ValueError: If shapes do not fit, or a length is not in [0, steps].
        TypeError: If a dtype is not float32, or lengths are not int64.

    Example:
        >>> import fastnn as fn
        >>> output, h_n, c_n = fn.functional.lstm(fn.ones(5, 2, 3), fn.ones(16, 3), fn.zeros(16, 4))
        >>> output.shape, c_n.shape
        ((5, 2, 4), (2, 4))

    Source:
        Hochreiter and Schmidhuber 1997, "Long short-term memory"; Gers et al. 2000 (forget gate).
    """
    result: Any = apply(
        _lstm, input, weight_ih, weight_hh, bias_ih, bias_hh, h_0, c_0,
        lengths=_lengths(lengths), reverse=reverse,
    )  # fmt: skip
    return result  # type: ignore[no-any-return]


def layer_norm_lstm(
    input: ArrayLike | Tensor,
    weight_ih: ArrayLike | Tensor,
    weight_hh: ArrayLike | Tensor,
    bias_ih: ArrayLike | Tensor | None = None,
    bias_hh: ArrayLike | Tensor | None = None,
    h_0: ArrayLike | Tensor | None = None,
    c_0: ArrayLike | Tensor | None = None,
    *,
    gain_ih: ArrayLike | Tensor | None = None,
    gain_hh: ArrayLike | Tensor | None = None,
    gain_c: ArrayLike | Tensor | None = None,
    bias_c: ArrayLike | Tensor | None = None,
    lengths: ArrayLike | Tensor | None = None,
    reverse: bool = False,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer-normalised long short-term memory over a sequence.

    With i, f, g, o the four parts of LN_ih(W_ih x_t) + LN_hh(W_hh h_(t-1)), sigma applied to i, f
    and o, and tanh to g:  c_t = f c_(t-1) + i g,  h_t = o tanh(LN_c(c_t)).  A norm is over all of a
    row, (z - mean) / sqrt(var + eps) * gain + bias, as in :func:`layer_norm`: over the four gates
    together for the sums. What goes on to the next step is c, not its norm.

    Args:
        input: Array of shape (steps, batch, features).
        weight_ih: Array of shape (4 hidden, features), the gates in the order i, f, g, o.
        weight_hh: Array of shape (4 hidden, hidden).
        bias_ih: Of the norm of the sums with the input, (4 hidden,); None for zeros.
        bias_hh: Of the norm of the sums with the state, the same.
        h_0: The state before the first step, (batch, hidden); None for zeros.
        c_0: The cell's state before the first step, likewise.
        gain_ih: Of the norm of the sums with the input, (4 hidden,); None for ones.
        gain_hh: Of the norm of the sums with the state, the same.
        gain_c: Of the norm of the cell's state, (hidden,).
        bias_c: The same; None for zeros.
        lengths: As in :func:`rnn`.
        reverse: As in :func:`rnn`.
        eps: Added to each variance, >= 0.

    Returns:
        (output, h_n, c_n): h of all steps, (steps, batch, hidden), and the last h and c, (batch,
        hidden).

    Raises:
        ValueError: If shapes do not fit, there is no unit, eps is negative, or a length is not in
            [0, steps].
        TypeError: If a dtype is not float32, or lengths are not int64.

    Example:
        >>> import fastnn as fn
        >>> weights = fn.ones(16, 3), fn.zeros(16, 4)
        >>> output, h_n, c_n = fn.functional.layer_norm_lstm(fn.ones(5, 2, 3), *weights)
        >>> output.shape, c_n.shape
        ((5, 2, 4), (2, 4))

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization", equations 20 to 22.
    """
    result: Any = apply(
        _layer_norm_lstm, input, weight_ih, weight_hh, bias_ih, bias_hh, h_0, c_0,
        gain_ih, gain_hh, gain_c, bias_c,
        lengths=_lengths(lengths), reverse=reverse, eps=float(eps),
    )  # fmt: skip
    return result  # type: ignore[no-any-return]


def gru(
    input: ArrayLike | Tensor,
    weight_ih: ArrayLike | Tensor,
    weight_hh: ArrayLike | Tensor,
    bias_ih: ArrayLike | Tensor | None = None,
    bias_hh: ArrayLike | Tensor | None = None,
    h_0: ArrayLike | Tensor | None = None,
    *,
    lengths: ArrayLike | Tensor | None = None,
    reverse: bool = False,
    convention: str = "torch",
) -> tuple[Tensor, Tensor]:
    """Gated recurrent units over a sequence.

    r and z are sigma of their parts of W_ih x_t + b_ih + W_hh h' + b_hh, where h' = h_(t-1). The
    rest is printed in different ways:

    ============ ========================================== =====================
    convention   n                                          h_t
    ============ ========================================== =====================
    ``torch``    tanh(W_in x + b_in + r (W_hn h' + b_hn))   (1 - z) n + z h'
    ``cho``      tanh(W_in x + b_in + W_hn (r h') + b_hn)   (1 - z) n + z h'
    ``lectures`` tanh(W_in x + b_in + W_hn (r h') + b_hn)   (1 - z) h' + z n
    ============ ========================================== =====================

    Args:
        input: Array of shape (steps, batch, features).
        weight_ih: Array of shape (3 hidden, features), the gates in the order r, z, n.
        weight_hh: Array of shape (3 hidden, hidden).
        bias_ih: Array of shape (3 hidden,), or None.
        bias_hh: The same.
        h_0: The state before the first step, (batch, hidden); None for zeros.
        lengths: As in :func:`rnn`.
        reverse: As in :func:`rnn`.
        convention: ``"torch"``, ``"cho"`` or ``"lectures"``.

    Returns:
        (output, h_n): the states of all steps, (steps, batch, hidden), and the last one, (batch,
        hidden).

    Raises:
        ValueError: If shapes do not fit, or a length is not in [0, steps].
        TypeError: If a dtype is not float32, or lengths are not int64.

    Example:
        >>> import fastnn as fn
        >>> output, h_n = fn.functional.gru(fn.ones(5, 2, 3), fn.ones(12, 3), fn.zeros(12, 4))
        >>> output.shape, h_n.shape
        ((5, 2, 4), (2, 4))

    Source:
        Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder"; Chung et al.
        2014 (``lectures``).
    """
    after, sign = resolve_convention("gru", convention)
    result: Any = apply(
        _gru, input, weight_ih, weight_hh, bias_ih, bias_hh, h_0,
        lengths=_lengths(lengths), reverse=reverse, after=after, sign=sign,
    )  # fmt: skip
    return result  # type: ignore[no-any-return]


def _swap_axes(x: Any) -> tuple[Any, Vjp]:
    return _core.swap_axes(x), lambda dy, needs: (_core.swap_axes(dy),)


def swap_batch(input: ArrayLike | Tensor) -> Tensor:
    """(batch, steps, ...) to (steps, batch, ...), or the other way round.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.functional.recurrent import swap_batch
        >>> swap_batch(fn.ones(2, 5, 3)).shape
        (5, 2, 3)
    """
    return apply(_swap_axes, input)
