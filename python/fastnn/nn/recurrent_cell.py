"""Recurrent cells, single steps of the layers, and what both are made of: their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import functional as F
from fastnn._checks import check_whole
from fastnn.functional.recurrent import resolve_convention, resolve_nonlinearity
from fastnn.nn import init
from fastnn.nn.module import Module, parameter
from fastnn.tensor import Tensor, as_tensor, ones, zeros

__all__ = ["GRUCell", "LSTMCell", "LayerNormLSTMCell", "RNNCell"]


class Weighted(Module):
    """The weights of a layer in one direction, by name: what stacks and cells share."""

    gates = 1
    names: tuple[str, ...] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    hidden_size: int
    bias: bool

    def add_weights(self, features: int, suffix: str) -> None:
        """Make them, drawn as torch does: U(-1/sqrt(hidden), 1/sqrt(hidden))."""
        rows = self.gates * self.hidden_size
        self._uniform(f"weight_ih{suffix}", rows, features)
        self._uniform(f"weight_hh{suffix}", rows, self.hidden_size)
        self._add_vectors(rows, suffix)

    def _add_vectors(self, rows: int, suffix: str) -> None:
        for name in ("bias_ih", "bias_hh"):
            if self.bias:
                self._uniform(f"{name}{suffix}", rows)
            else:
                setattr(self, f"{name}{suffix}", None)

    def _uniform(self, name: str, *shape: int) -> None:
        bound = self.hidden_size**-0.5
        w = init.uniform_(zeros(*shape), -bound, bound)
        w.requires_grad = True
        setattr(self, name, w)

    def weights(self, suffix: str) -> dict[str, Any]:
        """The weights as the functional ops call them."""
        return {name: getattr(self, f"{name}{suffix}") for name in self.names}


class LayerNormed(Weighted):
    """The weights of a layer-normalised LSTM: biases are those of the norms."""

    gates = 4
    names = (*Weighted.names, "gain_ih", "gain_hh", "gain_c", "bias_c")

    def _add_vectors(self, rows: int, suffix: str) -> None:
        for name in self.names[2:]:  # gains of 1 and biases of 0 at first
            size = self.hidden_size if name.endswith("_c") else rows
            p = None
            if name.startswith("gain"):
                p = parameter(ones(size))
            elif self.bias:
                p = parameter(zeros(size))
            setattr(self, f"{name}{suffix}", p)


def pair(name: str, hx: Any) -> tuple[Any, ...]:
    """(h_0, c_0), or an error that says so."""
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise TypeError(f"{name}: expected hx to be a tuple (h_0, c_0), got {type(hx).__name__}")
    return tuple(hx)


def check_eps(name: str, eps: float) -> None:
    """What is added to a variance is no negative number."""
    if not eps >= 0:
        raise ValueError(f"{name}: expected eps >= 0, got {eps}")


_DEFAULTS = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "nonlinearity": "tanh",
    "convention": "torch",
    "eps": 1e-5,
}


def describe(module: Any) -> str:
    """For repr: the sizes, and what is not the default."""
    given = {name: getattr(module, name, default) for name, default in _DEFAULTS.items()}
    parts = [f"{k}={v!r}" for k, v in given.items() if v != _DEFAULTS[k]]
    return ", ".join([str(module.input_size), str(module.hidden_size), *parts])


class _Cell(Weighted):
    """One step of a layer."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        check_whole(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        if input_size <= 0 or hidden_size <= 0:
            raise ValueError(
                f"{type(self).__name__}: expected sizes > 0, got input_size={input_size}, "
                f"hidden_size={hidden_size}"
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.add_weights(input_size, "")

    def _step(
        self, op: Callable[..., tuple[Tensor, ...]], input: Any, states: dict[str, Any],
        **options: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """The states after one step of the op, of the input's kind: a batch or one row."""
        x = as_tensor(input)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: expected input of shape (batch, {self.input_size}) or "
                f"({self.input_size},), got {x.shape}"
            )
        rows = x.shape[0] if x.ndim == 2 else 1
        given = {k: as_tensor(s) for k, s in states.items() if s is not None}
        if x.ndim == 1:
            given = {k: s.reshape(1, -1) for k, s in given.items()}
        y = op(x.reshape(1, rows, self.input_size), **self.weights(""), **given, **options)
        return y[1:] if x.ndim == 2 else tuple(s.reshape(-1) for s in y[1:])

    def extra_repr(self) -> str:
        """Sizes, and what is not the default."""
        return describe(self)


class RNNCell(_Cell):
    """One step of :class:`RNN`: ``h = cell(input, h)``, with h zeros at first.

    Args:
        input_size: Size of the input.
        hidden_size: Size of the state.
        bias: Whether there are biases.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Attributes:
        weight_ih: (hidden_size, input_size).
        weight_hh: (hidden_size, hidden_size).
        bias_ih: (hidden_size,), or None.
        bias_hh: The same.

    Raises:
        ValueError: If a size is not positive, the nonlinearity is unknown, or shapes do not fit.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.RNNCell(3, 4)(fn.ones(2, 3)).shape
        (2, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"
    ) -> None:
        resolve_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state, (batch, hidden_size)."""
        return self._step(F.rnn, input, {"h_0": hx}, nonlinearity=self.nonlinearity)[0]


class LSTMCell(_Cell):
    """One step of :class:`LSTM`: ``h, c = cell(input, (h, c))``, with zeros at first.

    Args:
        input_size: Size of the input.
        hidden_size: Size of the state.
        bias: Whether there are biases.

    Attributes:
        weight_ih: (4 hidden_size, input_size), the gates in the order i, f, g, o.
        weight_hh: (4 hidden_size, hidden_size).
        bias_ih: (4 hidden_size,), or None.
        bias_hh: The same.

    Raises:
        ValueError: If a size is not positive, or shapes do not fit.
        TypeError: If the state is not a pair.

    Example:
        >>> import fastnn as fn
        >>> h, c = fn.nn.LSTMCell(3, 4)(fn.ones(2, 3))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next (h, c), each (batch, hidden_size)."""
        h_0, c_0 = (None, None) if hx is None else pair("LSTMCell", hx)
        return self._step(F.lstm, input, {"h_0": h_0, "c_0": c_0})


class LayerNormLSTMCell(LayerNormed, _Cell):
    """One step of :class:`LayerNormLSTM`: ``h, c = cell(input, (h, c))``, with zeros at first.

    Args:
        input_size: Size of the input.
        hidden_size: Size of the state.
        bias: Whether the norms have biases.
        eps: Added to each variance.

    Attributes:
        weight_ih: (4 hidden_size, input_size), the gates in the order i, f, g, o.
        weight_hh: (4 hidden_size, hidden_size).
        bias_ih: (4 hidden_size,), or None, and so bias_hh and gain_ih, gain_hh.
        gain_c: (hidden_size,), and so bias_c.

    Raises:
        ValueError: If a size is not positive, eps is negative, or shapes do not fit.
        TypeError: If the state is not a pair.

    Example:
        >>> import fastnn as fn
        >>> h, c = fn.nn.LayerNormLSTMCell(3, 4)(fn.ones(2, 3))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization".
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, eps: float = 1e-5
    ) -> None:
        check_eps("LayerNormLSTMCell", eps)
        super().__init__(input_size, hidden_size, bias)
        self.eps = eps

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next (h, c), each (batch, hidden_size)."""
        h_0, c_0 = (None, None) if hx is None else pair("LayerNormLSTMCell", hx)
        return self._step(F.layer_norm_lstm, input, {"h_0": h_0, "c_0": c_0}, eps=self.eps)


class GRUCell(_Cell):
    """One step of :class:`GRU`: ``h = cell(input, h)``, with h zeros at first.

    Args:
        input_size: Size of the input.
        hidden_size: Size of the state.
        bias: Whether there are biases.
        convention: As for :class:`GRU`.

    Attributes:
        weight_ih: (3 hidden_size, input_size), the gates in the order r, z, n.
        weight_hh: (3 hidden_size, hidden_size).
        bias_ih: (3 hidden_size,), or None.
        bias_hh: The same.

    Raises:
        ValueError: If a size is not positive, the convention is unknown, or shapes do not fit.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.GRUCell(3, 4)(fn.ones(2, 3)).shape
        (2, 4)
    """

    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, convention: str = "torch"
    ) -> None:
        resolve_convention("GRUCell", convention)
        super().__init__(input_size, hidden_size, bias)
        self.convention = convention

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state, (batch, hidden_size)."""
        return self._step(F.gru, input, {"h_0": hx}, convention=self.convention)[0]
