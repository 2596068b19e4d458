"""Dropout layers, and what noise in evaluation is good for."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn._checks import checked
from fastnn.functional.activation import Activation
from fastnn.functional.dropout import DEPTH_MODES, INFERENCES, check_noise, check_word
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.tensor import as_tensor, no_grad

__all__ = [
    "AlphaDropout",
    "DropConnect",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "GaussianDropout",
    "PoissonDropout",
    "StochasticDepth",
    "mc_predict",
]


class _Noise(Module):
    """A layer that draws in training: mc_predict leaves it on."""

    def __init__(self, p: float) -> None:
        super().__init__()
        check_noise(type(self).__name__, p)
        self.p = p

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout(_Noise):
    """Zeroes elements with probability p in training; see :func:`fastnn.functional.dropout`.

    Args:
        p: Probability of dropping, in [0, 1].
        mode: ``"inverted"`` scales in training, ``"vanilla"`` in evaluation.

    Raises:
        ValueError: If p is not in [0, 1], or the mode is another.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Dropout(0.5).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5, *, mode: str = "inverted") -> None:
        super().__init__(p)
        check_noise("Dropout", p, mode)
        self.mode = mode

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input (or its expectation) in evaluation mode."""
        return F.dropout(input, self.p, self.training, mode=self.mode)

    def extra_repr(self) -> str:
        """The probability, and the mode when it is not the default."""
        return f"p={self.p}" if self.mode == "inverted" else f"p={self.p}, mode={self.mode!r}"


class Dropout1d(_Noise):
    """Zeroes whole channels of (..., channels, length) in training.

    See :func:`fastnn.functional.dropout1d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Dropout1d(1.0)(fn.ones(2, 3, 4)).sum().item()
        0.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input in evaluation mode."""
        return F.dropout1d(input, self.p, self.training)


class Dropout2d(_Noise):
    """Zeroes whole channels of (..., channels, height, width) in training.

    See :func:`fastnn.functional.dropout2d`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.Dropout2d(1.0)(fn.ones(2, 3, 4, 4)).sum().item()
        0.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input in evaluation mode."""
        return F.dropout2d(input, self.p, self.training)


class AlphaDropout(_Noise):
    """Dropout after SELU; see :func:`fastnn.functional.alpha_dropout`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.AlphaDropout(0.1).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input in evaluation mode."""
        return F.alpha_dropout(input, self.p, self.training)


class GaussianDropout(_Noise):
    """Multiplies by N(1, p / (1 - p)) in training; see :func:`fastnn.functional.gaussian_dropout`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.GaussianDropout(0.1).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Any) -> Any:
        """Multiply by noise in training mode, return the input in evaluation mode."""
        return F.gaussian_dropout(input, self.p, self.training)


class PoissonDropout(_Noise):
    """Multiplies by spike counts in training; see :func:`fastnn.functional.poisson_dropout`.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.PoissonDropout(0.1).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Any) -> Any:
        """Multiply by noise in training mode, return the input in evaluation mode."""
        return F.poisson_dropout(input, self.p, self.training)


class DropConnect(Linear):
    """A Linear whose weights are dropped in training; see :func:`fastnn.functional.drop_connect`.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        bias: Whether there is a b.
        p: Probability of dropping a weight, in [0, 1].
        mode: ``"inverted"`` or ``"vanilla"``.
        inference: ``"mean"`` or ``"sample"``, in evaluation.

    Raises:
        ValueError: If a size is negative, p is not in [0, 1], or a word is another.

    Example:
        >>> import fastnn as fn
        >>> sorted(fn.nn.DropConnect(3, 2).state_dict())
        ['bias', 'weight']
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        p: float = 0.5,
        *,
        mode: str = "inverted",
        inference: str = "mean",
    ) -> None:
        check_noise("DropConnect", p, mode)
        check_word("DropConnect", "inference", inference, INFERENCES)
        super().__init__(in_features, out_features, bias)
        self.p, self.mode, self.inference = p, mode, inference

    def forward(self, input: Any, activation: Activation = None, dropout_p: float = 0.0) -> Any:
        """Drop weights in training mode; the mean or a sample in evaluation mode."""
        y = F.drop_connect(
            input,
            self.weight,
            self.bias,
            self.p,
            self.training,
            mode=self.mode,
            inference=self.inference,
            activation=activation,
        )
        return F.dropout(y, dropout_p)

    def extra_repr(self) -> str:
        """Sizes and the probability."""
        return f"{super().extra_repr()}, p={self.p}"


class StochasticDepth(_Noise):
    """Drops a residual branch in training; see :func:`fastnn.functional.stochastic_depth`.

    Args:
        p: Probability of dropping, in [0, 1].
        mode: ``"row"`` or ``"batch"``.
        scaling: ``"inverted"`` or ``"vanilla"``.

    Raises:
        ValueError: If p is not in [0, 1], or a word is another.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.StochasticDepth(0.5, "row").eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float, mode: str, *, scaling: str = "inverted") -> None:
        super().__init__(p)
        check_word("StochasticDepth", "mode", mode, DEPTH_MODES)
        check_noise("StochasticDepth", p, scaling, "scaling")
        self.mode, self.scaling = mode, scaling

    @staticmethod
    def linear_decay(layers: int, p: float = 0.5) -> list[float]:
        """Probabilities of dropping l / layers p for the branches l = 1, ..., layers.

        Example:
            >>> import fastnn as fn
            >>> fn.nn.StochasticDepth.linear_decay(4)
            [0.125, 0.25, 0.375, 0.5]

        Source:
            Huang et al. 2016: branch l survives with 1 - l / L (1 - p_L), p_L = 0.5.
        """
        return [layer / layers * p for layer in range(1, layers + 1)]

    def forward(self, input: Any) -> Any:
        """Drop in training mode, return the input (or its expectation) in evaluation mode."""
        return F.stochastic_depth(input, self.p, self.mode, self.training, scaling=self.scaling)

    def extra_repr(self) -> str:
        """The probability and the mode."""
        return f"p={self.p}, mode={self.mode!r}"


@checked
def mc_predict(
    model: Module, x: Any, n: int = 20, batch_size: int = 1024
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean and standard deviation of n passes with the noise on: y = E_z f(x, z) by Monte Carlo.

    Dropout and its relatives draw as in training; all else, such as batch normalisation, is in
    evaluation mode. The single pass of ``model.predict`` approximates the mean.

    Args:
        model: Any module; its modes are as before afterwards.
        x: Array of shape (rows, ...).
        n: Number of passes, at least 1.
        batch_size: Rows per forward pass.

    Returns:
        (mean, standard deviation over the passes), float32 arrays of the output's shape.

    Raises:
        ValueError: If n is less than 1.

    Example:
        >>> import fastnn as fn
        >>> mean, spread = fn.nn.mc_predict(fn.nn.Dropout(1.0), [[1.0, 2.0]], n=3)
        >>> mean.tolist(), spread.tolist()
        ([[0.0, 0.0]], [[0.0, 0.0]])

    Source:
        Gal, Ghahramani 2016, "Dropout as a Bayesian approximation".
    """
    if n < 1:
        raise ValueError(f"mc_predict: expected n >= 1, got {n}")
    rows = np.asarray(as_tensor(x))
    modes = [(m, m.training) for _, m in model.named_modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, (_Noise, DropConnect))
        with no_grad():
            starts = range(0, max(len(rows), 1), batch_size)
            means, spreads = zip(
                *(_moments(model, rows[i : i + batch_size], n) for i in starts), strict=True
            )
    finally:
        for module, mode in modes:
            module.training = mode
    return np.concatenate(means), np.concatenate(spreads)


def _moments(model: Module, x: Any, n: int) -> tuple[Any, Any]:
    """Welford's recurrence over n passes, in float64."""
    mean: Any = 0.0
    squares: Any = 0.0
    for k in range(1, n + 1):
        y = np.array(model(x), np.float64)
        before = y - mean
        mean = mean + before / k
        squares = squares + before * (y - mean)
    return mean.astype(np.float32), np.sqrt(squares / n).astype(np.float32)
