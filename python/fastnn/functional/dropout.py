"""Dropout and its relatives: noise by counter, drawn again in backward, never stored.

p is always the probability of *dropping*; the sources use the letter for both. ``"inverted"`` noise
has mean 1 in training and is absent in evaluation; ``"vanilla"`` keeps what is not dropped as it
is, and evaluation multiplies by the probability of keeping, 1 - p. p is rounded to a multiple of
2^-16 wherever something is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastnn import _core, random
from fastnn._checks import check_number
from fastnn.functional.activation import Activation, activate, resolve_activation
from fastnn.functional.linear import linear
from fastnn.tensor import Tensor, Vjp, apply, as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _draw(x: Any) -> Any:
    return _core.rng_draw(random.generator("dropout", getattr(x, "device", "cpu")))


def _dropout(x: Any, *, p: float, inverted: bool, axes: int | None) -> tuple[Any, Vjp]:
    draw = _draw(x)
    y = _core.dropout(x, draw, p, inverted, axes)
    return y, lambda dy, needs: (_core.dropout(dy, draw, p, inverted, axes),)


def _alpha_dropout(x: Any, *, p: float) -> tuple[Any, Vjp]:
    draw = _draw(x)
    y = _core.alpha_dropout(x, draw, p, False)
    return y, lambda dy, needs: (_core.alpha_dropout(dy, draw, p, True),)


def _times_noise(x: Any, *, kernel: Callable[..., Any], p: float) -> tuple[Any, Vjp]:
    draw = _draw(x)
    return kernel(x, draw, p), lambda dy, needs: (kernel(dy, draw, p),)


def _sample_normal(mean: Any, variance: Any) -> tuple[Any, Vjp]:
    draw = _draw(mean)
    y = _core.sample_normal(mean, variance, draw)

    def vjp(dy: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return dy, _core.sample_normal_bwd(dy, variance, draw) if needs[1] else None

    return y, vjp


def check_noise(op: str, p: float, mode: str = "inverted", name: str = "mode") -> bool:
    """Raise for what is out of range; say whether the noise is inverted.

    Example:
        >>> from fastnn.functional.dropout import check_noise
        >>> check_noise("dropout", 0.5, "vanilla")
        False
    """
    check_number(op, "p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: expected 0 <= p <= 1, got {p}")
    check_word(op, name, mode, ("inverted", "vanilla"))
    return mode == "inverted"


def check_word(op: str, name: str, word: str, words: tuple[str, str]) -> None:
    """Raise unless a word is one of two.

    Example:
        >>> from fastnn.functional.dropout import check_word
        >>> check_word("dropout", "mode", "vanilla", ("inverted", "vanilla"))
    """
    if word not in words:
        raise ValueError(f"{op}: expected {name} {words[0]!r} or {words[1]!r}, got {word!r}")


INFERENCES = ("mean", "sample")
DEPTH_MODES = ("batch", "row")


def _keep_probability(p: float) -> float:
    """1 - p for p as it is rounded in training."""
    return 1 - int(p * 65536 + 0.5) / 65536


def _drop(x: Any, p: float, training: bool, inverted: bool, axes: int | None) -> Tensor:
    """What all that drops has in common."""
    if p == 0 or (inverted and not training):
        return x  # type: ignore[no-any-return]
    if not training:
        return x * _keep_probability(p)  # type: ignore[no-any-return]
    result: Tensor = apply(_dropout, x, p=float(p), inverted=inverted, axes=axes)
    return result


def dropout(
    input: ArrayLike | Tensor, p: float = 0.5, training: bool = True, *, mode: str = "inverted"
) -> Tensor:
    """Zero each element with probability p; in training x / (1 - p) else ("inverted").

    p is rounded to a multiple of 2^-16, and the scale is that of the rounded p. The elements drawn
    depend on the seed and on how many draws came before, not on threads.

    Args:
        input: Array of any shape.
        p: Probability of dropping, in [0, 1].
        training: If False, nothing is drawn: the input is returned as it is, or times 1 - p in
            mode "vanilla".
        mode: ``"inverted"`` scales in training, ``"vanilla"`` in evaluation.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1], or the mode is another.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.dropout([1.0, 2.0], p=1.0).numpy()
        array([0., 0.], dtype=float32)
        >>> fn.functional.dropout([1.0, 2.0], p=0.25, training=False, mode="vanilla").numpy()
        array([0.75, 1.5 ], dtype=float32)

    Source:
        Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    inverted = check_noise("dropout", p, mode)
    return _drop(as_tensor(input), p, training, inverted, None)


def _channels(op: str, input: ArrayLike | Tensor, spatial: int) -> tuple[Any, int]:
    """The input, and how many axes stand before the spatial ones."""
    x = as_tensor(input)
    if x.ndim not in (spatial + 1, spatial + 2):
        shapes = ("(channels, length)", "(channels, height, width)")[spatial - 1]
        raise ValueError(f"{op}: expected input of shape {shapes} or a batch of it, got {x.shape}")
    return x, x.ndim - spatial


def dropout1d(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero whole channels with probability p and scale the others by 1 / (1 - p).

    Args:
        input: Array of shape (batch, channels, length) or (channels, length).
        p: Probability of dropping a channel of a sample, in [0, 1].
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1], or the input has another number of axes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.dropout1d(fn.ones(3, 4), p=0.0).shape
        (3, 4)

    Source:
        Tompson et al. 2015, "Efficient object localization using convolutional networks".
    """
    inverted = check_noise("dropout1d", p)
    x, axes = _channels("dropout1d", input, 1)
    return _drop(x, p, training, inverted, axes)


def dropout2d(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero whole feature maps with probability p and scale the others by 1 / (1 - p).

    Args:
        input: Array of shape (batch, channels, height, width) or (channels, height, width).
        p: Probability of dropping a channel of a sample, in [0, 1].
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1], or the input has another number of axes.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.dropout2d(fn.ones(3, 4, 4), p=1.0).sum().item()
        0.0

    Source:
        Tompson et al. 2015, "Efficient object localization using convolutional networks".
    """
    inverted = check_noise("dropout2d", p)
    x, axes = _channels("dropout2d", input, 2)
    return _drop(x, p, training, inverted, axes)


def alpha_dropout(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout for SELU networks: mean 0 and variance 1 stay as they are.

    a x + b where kept and a a' + b where dropped, with a' = -1.7581 (SELU's lower limit),
    a = ((1 - p) (1 + p a'^2))^-1/2 and b = -a a' p. p = 1 gives zeros.

    Args:
        input: Array of any shape.
        p: Probability of dropping, in [0, 1].
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1].

    Example:
        >>> import fastnn as fn
        >>> fn.functional.alpha_dropout([1.0, 2.0], p=1.0).numpy()
        array([0., 0.], dtype=float32)

    Source:
        Klambauer et al. 2017, "Self-normalizing neural networks".
    """
    check_noise("alpha_dropout", p)
    if not training or p == 0:
        return as_tensor(input)  # type: ignore[no-any-return]
    result: Tensor = apply(_alpha_dropout, input, p=float(p))
    return result


def gaussian_dropout(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """x (1 + sqrt(p / (1 - p)) z), z standard normal: mean and variance of inverted dropout.

    Args:
        input: Array of any shape.
        p: The probability of dropping of the dropout it stands for, in [0, 1).
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1).

    Example:
        >>> import fastnn as fn
        >>> fn.functional.gaussian_dropout([0.0, 0.0], p=0.5).numpy()
        array([0., 0.], dtype=float32)

    Source:
        Srivastava et al. 2014, section 10, "Multiplicative Gaussian noise".
    """
    check_number("gaussian_dropout", "p", p)
    if not 0 <= p < 1:
        raise ValueError(f"gaussian_dropout: expected 0 <= p < 1, got {p}")
    if not training or p == 0:
        return as_tensor(input)  # type: ignore[no-any-return]
    result: Tensor = apply(_times_noise, input, kernel=_core.gaussian_dropout, p=float(p))
    return result


def poisson_dropout(input: ArrayLike | Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """x k / rate, k ~ Poisson(rate) with rate (1 - p) / p: spikes counted instead of a signal.

    The factor has mean 1 and variance p / (1 - p), as in inverted and Gaussian dropout, so the
    noise is proportional to the signal; it is never negative. The distribution is exact to 2^-24.

    Args:
        input: Array of any shape.
        p: The probability of dropping of the dropout it stands for: 0, or in [2^-16, 1).
        training: If False, the input is returned as it is.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is out of range.

    Example:
        >>> import fastnn as fn
        >>> x = fn.functional.poisson_dropout([3.0], p=0.5)  # the rate is 1: multiples of 3
        >>> x.item() % 3
        0.0
    """
    check_number("poisson_dropout", "p", p)
    if not (p == 0 or 2**-16 <= p < 1):
        raise ValueError(f"poisson_dropout: expected p = 0 or 2^-16 <= p < 1, got {p}")
    if not training or p == 0:
        return as_tensor(input)  # type: ignore[no-any-return]
    result: Tensor = apply(_times_noise, input, kernel=_core.poisson_dropout, p=float(p))
    return result


def drop_connect(
    input: ArrayLike | Tensor,
    weight: ArrayLike | Tensor,
    bias: ArrayLike | Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *,
    mode: str = "inverted",
    inference: str = "mean",
    activation: Activation = None,
) -> Tensor:
    """A linear layer whose weights, not its units, are dropped: x (M o W)^T + b.

    One mask M is drawn per forward pass, for the whole batch: a mask per sample would be a matrix
    product per sample. In evaluation y is the mean, x W'^T + b with W' = E[M o W], or is drawn from
    the normal distribution of Wan's moment matching, N(x W'^T + b, Var[M] (x o x)(W o W)^T).

    Args:
        input: Array of shape (..., in).
        weight: Array of shape (out, in).
        bias: Array of shape (out,), or None; never dropped.
        p: Probability of dropping a weight, in [0, 1].
        training: If False, the mean or a sample is returned.
        mode: ``"inverted"`` scales M by 1 / (1 - p), so that W' = W; ``"vanilla"``, the paper's,
            does not, so that W' = (1 - p) W.
        inference: ``"mean"``, or ``"sample"`` for a draw per call.
        activation: As in :func:`linear`. The average over draws of the activation is what Wan takes
            for prediction: see :func:`fastnn.nn.mc_predict`.

    Returns:
        Tensor of shape (..., out).

    Raises:
        ValueError: If the shapes do not fit, p is not in [0, 1], or a word is another.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.drop_connect([[1.0, 2.0]], [[1.0, 1.0]], p=0.5, training=False).item()
        3.0

    Source:
        Wan et al. 2013, "Regularization of neural networks using DropConnect".
    """
    inverted = check_noise("drop_connect", p, mode)
    check_word("drop_connect", "inference", inference, INFERENCES)
    x, w = as_tensor(input), as_tensor(weight)
    dropped = _drop(w, p, training, inverted, None)
    if training or inference == "mean" or p == 0:
        return linear(x, dropped, bias, activation=activation)
    keep = _keep_probability(p)
    scale = 1.0 if not inverted else 1 / keep if keep > 0 else 0.0
    variance = linear(x * x, w * w) * (keep * (1 - keep) * scale * scale)
    result: Tensor = apply(_sample_normal, linear(x, dropped, bias), variance)
    if activation is None:
        return result
    info = resolve_activation("drop_connect", activation)
    return activate(info, result, info[2])


def stochastic_depth(
    input: ArrayLike | Tensor,
    p: float,
    mode: str,
    training: bool = True,
    *,
    scaling: str = "inverted",
) -> Tensor:
    """Drop a residual branch: x + stochastic_depth(f(x), p, "row") skips f for some samples.

    Args:
        input: The branch's output, of shape (batch, ...).
        p: Probability of dropping, in [0, 1].
        mode: ``"row"`` drops each sample by itself, ``"batch"`` all of them or none.
        training: If False, nothing is drawn.
        scaling: ``"inverted"`` scales what is kept by 1 / (1 - p), as torchvision does;
            ``"vanilla"`` multiplies by 1 - p in evaluation, as the paper does.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If p is not in [0, 1], a word is another, or the input has no axis.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.stochastic_depth(fn.ones(2, 3), 1.0, "row").sum().item()
        0.0

    Source:
        Huang et al. 2016, "Deep networks with stochastic depth".
    """
    inverted = check_noise("stochastic_depth", p, scaling, "scaling")
    check_word("stochastic_depth", "mode", mode, DEPTH_MODES)
    x = as_tensor(input)
    if x.ndim == 0:
        raise ValueError("stochastic_depth: expected input with at least one axis, got ()")
    return _drop(x, p, training, inverted, 1 if mode == "row" else 0)
