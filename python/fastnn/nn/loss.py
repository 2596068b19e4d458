"""Loss layers: the functions of the same name, with their options kept. Weights are buffers, as in
torch: they move with ``to`` and are in the state_dict.
"""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.nn.module import Module
from fastnn.tensor import Tensor, tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MultiClassHingeLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
]


class _Loss(Module):
    """A loss of F: the function's name, and its arguments besides input and target."""

    function = ""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._options}

    def weights(self, **weights: Any) -> None:
        """Register weights that are not None as buffers."""
        for name, value in weights.items():
            if value is None:
                setattr(self, name, None)
            else:
                self.register_buffer(name, value if isinstance(value, Tensor) else tensor(value))

    def forward(self, input: Any, target: Any, **extra: Any) -> Any:
        """The loss of predictions against targets."""
        return getattr(F, self.function)(
            input, target, **self._arguments(), **dict(self.named_buffers()), **extra
        )

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{k}={v!r}" for k, v in self._arguments().items())


class CrossEntropyLoss(_Loss):
    """Softmax cross-entropy; see :func:`fastnn.functional.cross_entropy`.

    Args:
        weight: A weight for each class.
        ignore_index: A label whose rows have no loss.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        label_smoothing: The part of the target that is spread over all classes.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.CrossEntropyLoss()([[0.0, 0.0]], [0]).item()
        0.6931471824645996
    """

    function = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
        self.weights(weight=weight)


class NLLLoss(_Loss):
    """-weight_y x_y; see :func:`fastnn.functional.nll_loss`.

    Args:
        weight: A weight for each class.
        ignore_index: A label whose rows have no loss.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    function = "nll_loss"

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)
        self.weights(weight=weight)


class MSELoss(_Loss):
    """(x - t)^2; see :func:`fastnn.functional.mse_loss`."""

    function = "mse_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class L1Loss(_Loss):
    """|x - t|; see :func:`fastnn.functional.l1_loss`."""

    function = "l1_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class SmoothL1Loss(_Loss):
    """A parabola that goes on as |x - t|; see :func:`fastnn.functional.smooth_l1_loss`."""

    function = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """A parabola that goes on as delta |x - t|; see :func:`fastnn.functional.huber_loss`."""

    function = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction, delta=delta)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and binary cross-entropy in one; see
    :func:`fastnn.functional.binary_cross_entropy_with_logits`.

    Args:
        weight: Factors of the losses.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: Factors of the positive side.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.BCEWithLogitsLoss()([0.0], [1.0]).item()
        0.6931471824645996
    """

    function = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction=reduction)
        self.weights(weight=weight, pos_weight=pos_weight)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities; see :func:`fastnn.functional.binary_cross_entropy`."""

    function = "binary_cross_entropy"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.weights(weight=weight)


class KLDivLoss(_Loss):
    """t (log t - x); see :func:`fastnn.functional.kl_div`."""

    function = "kl_div"

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)


class SoftMarginLoss(_Loss):
    """log(1 + e^(-t x)); see :func:`fastnn.functional.soft_margin_loss`."""

    function = "soft_margin_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class HingeLoss(_Loss):
    """max(0, margin - t x); see :func:`fastnn.functional.hinge_loss`."""

    function = "hinge_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class MultiMarginLoss(_Loss):
    """Hinge over classes, divided by them; see :func:`fastnn.functional.multi_margin_loss`."""

    function = "multi_margin_loss"

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
    ) -> None:
        super().__init__(p=p, margin=margin, reduction=reduction)
        self.weights(weight=weight)


class MultiClassHingeLoss(_Loss):
    """Hinge over classes; see :func:`fastnn.functional.multiclass_hinge_loss`."""

    function = "multiclass_hinge_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class MultiLabelMarginLoss(_Loss):
    """Hinge over pairs; see :func:`fastnn.functional.multilabel_margin_loss`."""

    function = "multilabel_margin_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """A logistic loss per class; see :func:`fastnn.functional.multilabel_soft_margin_loss`."""

    function = "multilabel_soft_margin_loss"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.weights(weight=weight)
