"""Activations. One rule serves them all: the formulas are in csrc/kernels/formulas/activation.h.

With ``inplace`` the result is written over the input where that changes no gradient: where none is
recorded, and for those whose derivative can be taken from the output (relu, relu6, leaky_relu with
a slope > 0, and hardtanh in float32). Elsewhere, and for an input that is no Tensor, it is a wish
that is not granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _core
from fastnn._checks import check_number
from fastnn.functional.parametric import parametric
from fastnn.tape import apply_in_place
from fastnn.tensor import Tensor, Vjp, apply, is_grad_enabled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_RELU = _core.ACTIVATIONS["relu"]
_LEAKY_RELU = _core.ACTIVATIONS["leaky_relu"]
_ELU = _core.ACTIVATIONS["elu"]
_SELU = _core.ACTIVATIONS["selu"]
_SIGMOID = _core.ACTIVATIONS["sigmoid"]
_TANH = _core.ACTIVATIONS["tanh"]
_SOFTPLUS = _core.ACTIVATIONS["softplus"]
_SILU = _core.ACTIVATIONS["silu"]
_GELU = _core.ACTIVATIONS["gelu"]
_GELU_TANH = _core.ACTIVATIONS["gelu_tanh"]
_RELU6 = _core.ACTIVATIONS["relu6"]
_HARDSIGMOID = _core.ACTIVATIONS["hardsigmoid"]
_HARDSWISH = _core.ACTIVATIONS["hardswish"]
_SWISH = _core.PARAMETRIC["swish"]
_NAMES = tuple(_core.ACTIVATIONS)


Activation = str | tuple[str, float] | None


def resolve_activation(op: str, activation: Activation) -> tuple[int, bool, float]:
    """(index, whether backward needs the output, parameter) of an activation given by name.

    Example:
        >>> from fastnn.functional.activation import resolve_activation
        >>> resolve_activation("linear", None)
        (0, True, 0.0)
    """
    name, a = activation if isinstance(activation, tuple) else (activation, None)
    if name is None:
        return 0, True, 0.0
    try:
        kind, saves_output, default = _core.ACTIVATIONS[name]
    except (KeyError, TypeError):
        known = ", ".join(k for k in _core.ACTIVATIONS if k != "identity")
        raise ValueError(f"{op}: expected activation to be one of {known}, got {name!r}") from None
    if a is not None:
        check_number(op, f"the parameter of {name}", a)
    if name == "softplus" and a is not None and not a > 0:
        raise ValueError(f"{op}: expected softplus with beta > 0, got {a}")
    return kind, saves_output, default if a is None else float(a)


def _activation_in_place(x: Any, *, kind: int, a: float) -> tuple[Any, Vjp]:
    _core.activation_(x, kind, a)
    return x, lambda dy, needs: (_core.activation_bwd(dy, x, kind, a),)


def _activation(x: Any, *, kind: int, a: float, saves_output: bool) -> tuple[Any, Vjp]:
    y = _core.activation_fwd(x, kind, a)
    saved = y if saves_output else x
    return y, lambda dy, needs: (_core.activation_bwd(dy, saved, kind, a),)


def activate(
    info: tuple[int, bool, float], x: Any, a: float = 0.0, inplace: bool = False
) -> Tensor:
    """An activation that :func:`resolve_activation` has found, with the parameter a.

    Example:
        >>> from fastnn.functional.activation import activate, resolve_activation
        >>> activate(resolve_activation("linear", "relu"), [-1.0, 2.0]).numpy()
        array([0., 2.], dtype=float32)
    """
    kind, saves_output, _ = info
    if inplace and type(x) is Tensor:
        from_output = saves_output or (info is _LEAKY_RELU and a > 0)  # signs are the same
        if from_output or not (x.requires_grad and is_grad_enabled()):
            return apply_in_place(_activation_in_place, x, name=_NAMES[kind], kind=kind, a=a)
    if type(x) is Tensor and x.requires_grad:
        result: Tensor = apply(_activation, x, kind=kind, a=a, saves_output=saves_output)
        return result
    return _core.activation_fwd(x, kind, a)  # nothing to record: one native call


def relu(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), with gradient 0 at 0.

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.relu([-1.0, 2.0]).numpy()
        array([0., 2.], dtype=float32)

    Source:
        Nair, Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".
    """
    return activate(_RELU, input, inplace=inplace)


def relu6(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), with gradient 0 at 0 and at 6.

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.relu6([-1.0, 2.0, 8.0]).numpy()
        array([0., 2., 6.], dtype=float32)

    Source:
        Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10".
    """
    return activate(_RELU6, input, inplace=inplace)


def hardsigmoid(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6, with gradient 0 where that is 0 or 1.

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.hardsigmoid([-4.0, 0.0, 4.0]).numpy()
        array([0. , 0.5, 1. ], dtype=float32)

    Source:
        Howard et al. 2019, "Searching for MobileNetV3".
    """
    return activate(_HARDSIGMOID, input, inplace=inplace)


def hardswish(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """x min(max(x + 3, 0), 6) / 6, with gradient 0 up to -3 and 1 from 3 on.

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.hardswish([-4.0, 1.5, 4.0]).numpy()
        array([0.   , 1.125, 4.   ], dtype=float32)

    Source:
        Howard et al. 2019, "Searching for MobileNetV3".
    """
    return activate(_HARDSWISH, input, inplace=inplace)


def leaky_relu(
    input: ArrayLike | Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    """x where x > 0, else negative_slope x.

    Args:
        input: Array of any shape.
        negative_slope: Slope for x <= 0.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.leaky_relu([-1.0, 2.0], 0.5).numpy()
        array([-0.5,  2. ], dtype=float32)

    Source:
        Maas, Hannun, Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".
    """
    check_number("leaky_relu", "negative_slope", negative_slope)
    return activate(_LEAKY_RELU, input, negative_slope, inplace=inplace)


def elu(input: ArrayLike | Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^x - 1).

    Args:
        input: Array of any shape.
        alpha: Minus the limit at -infinity.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.elu([-1000.0, 2.0]).numpy()
        array([-1.,  2.], dtype=float32)

    Source:
        Clevert, Unterthiner, Hochreiter 2016, "Fast and accurate deep network learning by ELUs".
    """
    check_number("elu", "alpha", alpha)
    return activate(_ELU, input, alpha, inplace=inplace)


def selu(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """1.0507 x where x > 0, else 1.0507 * 1.6733 (e^x - 1).

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.selu([1.0]).numpy()
        array([1.050701], dtype=float32)

    Source:
        Klambauer et al. 2017, "Self-normalizing neural networks".
    """
    return activate(_SELU, input, inplace=inplace)


def sigmoid(input: ArrayLike | Tensor) -> Tensor:
    """1 / (1 + e^-x).

    Args:
        input: Array of any shape.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.sigmoid([0.0]).numpy()
        array([0.5], dtype=float32)
    """
    return activate(_SIGMOID, input)


def tanh(input: ArrayLike | Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x).

    Args:
        input: Array of any shape.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.tanh([0.0, 100.0]).numpy()
        array([0., 1.], dtype=float32)
    """
    return activate(_TANH, input)


def softplus(input: ArrayLike | Tensor, beta: float = 1.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, exact for large x without a threshold.

    Args:
        input: Array of any shape.
        beta: Sharpness, > 0.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If beta is not positive.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.softplus([0.0, 100.0]).numpy()
        array([  0.6931472, 100.       ], dtype=float32)

    Source:
        Dugas et al. 2001, "Incorporating second-order functional knowledge for better option
        pricing".
    """
    check_number("softplus", "beta", beta)
    if not beta > 0:
        raise ValueError(f"softplus: expected beta > 0, got {beta}")
    return activate(_SOFTPLUS, input, beta)


def silu(input: ArrayLike | Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x): swish with beta 1.

    Args:
        input: Array of any shape.
        inplace: Whether to write over the input where that changes no gradient.

    Returns:
        Tensor of the same shape and dtype.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.silu([0.0]).numpy()
        array([0.], dtype=float32)

    Source:
        Elfwing, Uchibe, Doya 2018, "Sigmoid-weighted linear units for neural network function
        approximation in reinforcement learning".
    """
    return activate(_SILU, input, 1.0, inplace=inplace)


def swish(input: ArrayLike | Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """x sigmoid(beta x); beta 0 gives x / 2, and a large beta relu.

    Args:
        input: Array of any shape.
        beta: Sharpness: a number, or a Tensor that may be trained, of shape (1,) or with one for
            each index of axis 1.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If a Tensor beta has neither one element nor as many as axis 1.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.swish([4.0], beta=0.0).numpy()
        array([2.], dtype=float32)

    Source:
        Ramachandran, Zoph, Le 2017, "Searching for activation functions".
    """
    if isinstance(beta, Tensor):
        result: Tensor = apply(parametric, input, beta, kind=_SWISH)
        return result
    check_number("swish", "beta", beta)
    return activate(_SILU, input, beta)


def gelu(input: ArrayLike | Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the normal distribution function.

    Args:
        input: Array of any shape.
        approximate: ``"none"``, or ``"tanh"`` for x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: For another ``approximate``.

    Example:
        >>> import fastnn as fn
        >>> fn.functional.gelu([0.0, 10.0]).numpy()
        array([ 0., 10.], dtype=float32)

    Source:
        Hendrycks, Gimpel 2016, "Gaussian error linear units".
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return activate(_GELU if approximate == "none" else _GELU_TANH, input)
