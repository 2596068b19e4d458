"""Recurrent layers: stacks of them, in one direction or both."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn._checks import check_number, check_whole
from fastnn.functional.recurrent import resolve_convention, resolve_nonlinearity, swap_batch
from fastnn.nn.recurrent_cell import LayerNormed, Weighted, check_eps, describe, pair
from fastnn.tensor import Tensor, as_tensor

__all__ = ["GRU", "LSTM", "RNN", "LayerNormLSTM"]


class _Recurrent(Weighted):
    """Layers over layers, each in one direction or in both. Subclasses are the cells."""

    states: tuple[str, ...] = ("h_0",)

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
        dropout: float, bidirectional: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        check_whole(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_number(name, "dropout", dropout)
        if input_size <= 0 or hidden_size <= 0 or num_layers <= 0:
            raise ValueError(
                f"{name}: expected sizes and num_layers > 0, got input_size={input_size}, "
                f"hidden_size={hidden_size}, num_layers={num_layers}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: expected 0 <= dropout <= 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size * len(self._suffixes)
            for suffix in self._suffixes:
                self.add_weights(features, f"_l{layer}{suffix}")

    def _run(self, x: Any, **arguments: Any) -> tuple[Tensor, ...]:
        """One layer in one direction: (output, last states ...)."""
        raise NotImplementedError

    def _check_input(self, x: Any) -> None:
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            first = "batch, steps" if self.batch_first else "steps, batch"
            raise ValueError(
                f"{type(self).__name__}: expected input of shape ({first}, {self.input_size}) or "
                f"(steps, {self.input_size}), got {x.shape}"
            )

    def _initial(self, hx: Any, batch: int | None) -> dict[str, tuple[Any, ...]]:
        """The states before the first step, one (batch, hidden) for each layer and direction."""
        if hx is None:
            return {}
        given = (hx,) if len(self.states) == 1 else pair(type(self).__name__, hx)
        count = self.num_layers * len(self._suffixes)
        shape = (count, self.hidden_size) if batch is None else (count, batch, self.hidden_size)
        rows = 1 if batch is None else batch
        parts = {}
        for name, state in zip(self.states, map(as_tensor, given), strict=True):
            if state.shape != shape:
                raise ValueError(
                    f"{type(self).__name__}: expected {name} of shape {shape}, layers * "
                    f"directions first, got {state.shape}"
                )
            pieces = F.split(state, 1) if count > 1 else (state,)
            parts[name] = tuple(p.reshape(rows, self.hidden_size) for p in pieces)
        return parts

    def _layers(
        self, x: Any, initial: dict[str, tuple[Any, ...]], lengths: Any
    ) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """The output of the last layer, and the last states of all."""
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._suffixes:
                at = len(last)
                y, *states = self._run(
                    x,
                    **self.weights(f"_l{layer}{suffix}"),
                    **{name: parts[at] for name, parts in initial.items()},
                    lengths=lengths,
                    reverse=suffix != "",
                )
                outputs.append(y)
                last.append(tuple(states))
            x = outputs[0] if len(outputs) == 1 else F.cat(outputs, dim=2)
            if self.dropout > 0 and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, last

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """(output, last states); see the class."""
        x = as_tensor(input)
        self._check_input(x)
        steps, batched = x.shape[0], x.ndim == 3
        if not batched:
            x = x.reshape(steps, 1, self.input_size)
        elif self.batch_first:
            x = swap_batch(x)
        batch = x.shape[1]
        lengths = None if lengths is None else as_tensor(lengths)
        y, last = self._layers(x, self._initial(hx, batch if batched else None), lengths)
        shape = (1, batch, self.hidden_size) if batched else (1, self.hidden_size)
        ends = []
        for states in zip(*last, strict=True):
            parts = [s.reshape(*shape) for s in states]
            ends.append(parts[0] if len(parts) == 1 else F.cat(parts))
        if not batched:
            y = y.reshape(steps, self.hidden_size * len(self._suffixes))
        elif self.batch_first:
            y = swap_batch(y)
        return y, ends[0] if len(ends) == 1 else tuple(ends)

    def extra_repr(self) -> str:
        """Sizes, and what is not the default."""
        return describe(self)


class RNN(_Recurrent):
    """Plain recurrent layers: h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh).

    The second layer reads the outputs of the first, and so on. Call it as ``rnn(input, h_0,
    lengths=...)``; it returns ``(output, h_n)``.

    With L layers in D directions (1 or 2): input is (steps, batch, input_size), or (batch, steps,
    input_size) with ``batch_first``, or (steps, input_size) for one row; h_0 and h_n are (L D,
    batch, hidden_size), the layers in order, forward before backward; output is (steps, batch, D
    hidden_size).

    ``lengths``, int64 of shape (batch,), says how many steps each row has, in any order: what
    torch's packed sequences are for. Past a row's length its output is 0, h_n is its state after
    its last step, and the backward direction starts there. The padding has to be finite.

    Backpropagation through time may be cut (truncated): detach the states and pass them on. ::

        state = None
        for piece in pieces:                      # consecutive pieces of one text
            output, state = rnn(piece, state)
            loss_of(output).backward()            # reaches back to the start of the piece
            state = state.detach()                # LSTM: tuple(s.detach() for s in state)

    Args:
        input_size: Size of a step's input.
        hidden_size: Size of the state.
        num_layers: Number of layers.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: Whether there are biases.
        batch_first: Whether the batch is the first axis of input and output; the states are as
            without it.
        dropout: Probability of dropping outputs between layers, in training.
        bidirectional: Whether every layer also runs from the end to the beginning.

    Attributes:
        weight_ih_l0: (hidden_size, input_size), and so on for ``l1`` ... with D hidden_size inputs;
            with ``_reverse`` at the end for the backward direction.
        weight_hh_l0: (hidden_size, hidden_size).
        bias_ih_l0: (hidden_size,).
        bias_hh_l0: The same.

    Raises:
        ValueError: If a size or dropout is out of range, the nonlinearity is unknown, shapes do not
            fit, or a length is not in [0, steps].

    Example:
        >>> import fastnn as fn
        >>> rnn = fn.nn.RNN(3, 4, num_layers=2, bidirectional=True)
        >>> output, h_n = rnn(fn.ones(5, 2, 3), lengths=[5, 2])
        >>> output.shape, h_n.shape
        ((5, 2, 8), (4, 2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:  # fmt: skip
        resolve_nonlinearity("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.nonlinearity = nonlinearity

    def _run(self, x: Any, **arguments: Any) -> tuple[Tensor, ...]:
        return F.rnn(x, **arguments, nonlinearity=self.nonlinearity)


class LSTM(_Recurrent):
    """Long short-term memory; see :func:`fastnn.functional.lstm` for the cell.

    Call it as ``lstm(input, (h_0, c_0), lengths=...)``; it returns ``(output, (h_n, c_n))``.
    Shapes, ``lengths``, truncated backpropagation, arguments and names are those of :class:`RNN`;
    weights have 4 hidden_size rows, the gates in the order i, f, g, o. A bias of 1 for the forget
    gate is often used: ``lstm.bias_ih_l0`` may be written before training.

    Args:
        input_size: Size of a step's input.
        hidden_size: Size of the state.
        num_layers: Number of layers.
        bias: Whether there are biases.
        batch_first: Whether the batch is the first axis of input and output.
        dropout: Probability of dropping outputs between layers, in training.
        bidirectional: Whether every layer also runs from the end to the beginning.

    Raises:
        ValueError: As :class:`RNN`.
        TypeError: If the initial state is not a pair.

    Example:
        >>> import fastnn as fn
        >>> output, (h_n, c_n) = fn.nn.LSTM(3, 4, batch_first=True)(fn.ones(2, 5, 3))
        >>> output.shape, c_n.shape
        ((2, 5, 4), (1, 2, 4))
    """

    gates = 4
    states = ("h_0", "c_0")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def _run(self, x: Any, **arguments: Any) -> tuple[Tensor, ...]:
        return F.lstm(x, **arguments)


class LayerNormLSTM(LayerNormed, _Recurrent):
    """LSTM with layer norms; see :func:`fastnn.functional.layer_norm_lstm` for the cell.

    Gates are made of LN(W_ih x_t) + LN(W_hh h_(t-1)), and h_t = o tanh(LN(c_t)): the size of the
    sums does not depend on that of inputs and weights, which keeps the gates in their range over
    long sequences. Call it as :class:`LSTM`; it has :class:`LSTM`'s arguments, shapes and
    ``lengths``, and ``eps``.

    Args:
        input_size: Size of a step's input.
        hidden_size: Size of the state.
        num_layers: Number of layers.
        bias: Whether the norms have biases.
        batch_first: Whether the batch is the first axis of input and output.
        dropout: Probability of dropping outputs between layers, in training.
        bidirectional: Whether every layer also runs from the end to the beginning.
        eps: Added to each variance.

    Attributes:
        weight_ih_l0: (4 hidden_size, input_size), and so on as in :class:`LSTM`.
        weight_hh_l0: (4 hidden_size, hidden_size).
        bias_ih_l0: (4 hidden_size,), of the norm of W_ih x_t; at first 0.
        bias_hh_l0: The same, of W_hh h_(t-1).
        gain_ih_l0: (4 hidden_size,), at first 1.
        gain_hh_l0: The same.
        gain_c_l0: (hidden_size,), of the norm of c; at first 1.
        bias_c_l0: The same, at first 0.

    Raises:
        ValueError: As :class:`RNN`, or if eps is negative.
        TypeError: If the initial state is not a pair.

    Example:
        >>> import fastnn as fn
        >>> output, (h_n, c_n) = fn.nn.LayerNormLSTM(3, 4, batch_first=True)(fn.ones(2, 5, 3))
        >>> output.shape, c_n.shape
        ((2, 5, 4), (1, 2, 4))

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization".
    """

    states = ("h_0", "c_0")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        eps: float = 1e-5,
    ) -> None:  # fmt: skip
        check_eps("LayerNormLSTM", eps)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.eps = eps

    def _run(self, x: Any, **arguments: Any) -> tuple[Tensor, ...]:
        return F.layer_norm_lstm(x, **arguments, eps=self.eps)


class GRU(_Recurrent):
    """Gated recurrent units; see :func:`fastnn.functional.gru` for the cell and its conventions.

    Fewer parameters than :class:`LSTM`, 3 to 4, and quicker; neither wins always: begin with LSTM,
    go to GRU for speed. Call it as ``gru(input, h_0, lengths=...)``; it returns ``(output, h_n)``.
    Shapes, ``lengths``, truncated backpropagation, arguments and names are those of :class:`RNN`;
    weights have 3 hidden_size rows, the gates in the order r, z, n.

    Args:
        input_size: Size of a step's input.
        hidden_size: Size of the state.
        num_layers: Number of layers.
        bias: Whether there are biases.
        batch_first: Whether the batch is the first axis of input and output.
        dropout: Probability of dropping outputs between layers, in training.
        bidirectional: Whether every layer also runs from the end to the beginning.
        convention: ``"torch"``, ``"cho"`` or ``"lectures"``: where the reset gate is applied, and
            which of the states the update gate z belongs to.

    Raises:
        ValueError: As :class:`RNN`, or if the convention is unknown.

    Example:
        >>> import fastnn as fn
        >>> output, h_n = fn.nn.GRU(3, 4, convention="lectures")(fn.ones(5, 2, 3))
        >>> output.shape, h_n.shape
        ((5, 2, 4), (1, 2, 4))
    """

    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        convention: str = "torch",
    ) -> None:  # fmt: skip
        resolve_convention("GRU", convention)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.convention = convention

    def _run(self, x: Any, **arguments: Any) -> tuple[Tensor, ...]:
        return F.gru(x, **arguments, convention=self.convention)
