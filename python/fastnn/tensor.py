"""Tensor, and the functions that make one. What ops record is in tape.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _convert, _core, _rules
from fastnn._devices import is_device
from fastnn.creation import from_dlpack, from_numpy, ones, zeros
from fastnn.tape import Rule, Vjp, apply, enable_grad, is_grad_enabled, no_grad, run_backward

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "Rule", "Tensor", "Vjp", "apply", "enable_grad", "from_dlpack", "from_numpy", "is_grad_enabled",
    "no_grad", "ones", "tensor", "zeros",
]  # fmt: skip


class Tensor(_core.TensorBase):
    """A contiguous array of one dtype on one device, and its place on the tape.

    Made by :func:`tensor`, :func:`from_numpy`, or an op. ``reshape`` shares memory, everything else
    copies. Tensors are compared and hashed by identity.

    Attributes:
        shape: Sizes of the axes, a tuple.
        dtype: ``"float32"``, ``"bfloat16"``, ``"int64"`` or ``"uint8"``; on CUDA ``"float16"`` too.
        device: ``"cpu"``, or ``"cuda:0"`` and on, by index.
        layout: ``"nchw"``, or ``"nhwc"`` for images (n, c, h, w) whose channels are last in memory;
            see :meth:`contiguous`.
        grad: The gradient that ``backward`` accumulated, or None.
        requires_grad: Whether ops record this Tensor for ``backward``.
    """

    __slots__ = ()
    __array_priority__ = 1000  # so that array + Tensor asks the Tensor

    # ---- the tape ----------------------------------------------------------------------------

    def backward(self, gradient: ArrayLike | Tensor | None = None) -> None:
        """Accumulate d(self)/d(leaf) into ``.grad`` of every leaf that requires it.

        Args:
            gradient: The gradient of some scalar with respect to this Tensor, of the same shape.
                May be left out for a scalar, where it is 1.

        Raises:
            RuntimeError: If nothing requires a gradient, or the graph was used before.
            ValueError: If the gradient is missing or its shape is not this Tensor's.

        Example:
            >>> import fastnn as fn
            >>> x = fn.tensor([1.0, 2.0], requires_grad=True)
            >>> (x * x).sum().backward()
            >>> x.grad.numpy()
            array([2., 4.], dtype=float32)
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward: expected a Tensor that requires a gradient, got one that does not"
            )
        if gradient is None:
            if math.prod(self.shape) != 1:
                raise ValueError(
                    f"backward: expected a gradient for a Tensor of shape {self.shape}, got none; "
                    "only a scalar has a default"
                )
            gradient = _core.full(self.shape, 1.0, self.dtype, self.device)
        seed = as_tensor(gradient)
        if seed.shape != self.shape:
            raise ValueError(
                f"backward: expected a gradient of shape {self.shape}, got {seed.shape}"
            )
        with no_grad():
            run_backward(self, seed)

    def detach(self) -> Tensor:
        """A Tensor with the same memory that the tape does not know.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).detach().requires_grad
            False
        """
        return _core.share(self)

    # ---- to and from the host ----------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """A NumPy view of the memory (bfloat16: a float32 copy).

        Raises:
            CaptureError: Inside a captured function.
            RuntimeError: If the Tensor is on another device, or the tape needs it: ``detach()`` it.

        Example:
            >>> import fastnn as fn
            >>> fn.zeros(3).numpy()
            array([0., 0., 0.], dtype=float32)
        """
        if self.requires_grad:
            raise RuntimeError(
                "numpy: expected a Tensor without gradient, got one that requires it; "
                "call detach() first"
            )
        return np.asarray(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        _core.refuse_while_recording("a read of a Tensor on the host (numpy(), item(), np.asarray)")
        if self.device != "cpu":
            raise RuntimeError(
                f"numpy: expected a Tensor on cpu, got one on {self.device}; call .to('cpu') first"
            )
        source = self if self.dtype != "bfloat16" else _core.to_dtype(self, "float32")
        array = np.asarray(memoryview(source))
        return array if dtype is None else array.astype(dtype)

    def item(self) -> float:
        """The value of a Tensor with one element.

        Example:
            >>> import fastnn as fn
            >>> fn.tensor([2.5]).item()
            2.5
        """
        if math.prod(self.shape) != 1:
            raise ValueError(f"item: expected a Tensor with one element, got shape {self.shape}")
        value: float = np.asarray(self.detach().to("cpu")).item()
        return value

    def to(self, target: str, *, non_blocking: bool = False) -> Tensor:
        """This Tensor on another device, or in another floating dtype; itself if it is so already.

        Args:
            target: ``"cpu"``; ``"cuda"``, the current CUDA device (:func:`fastnn.cuda.device`), or
                ``"cuda:1"``, one by index; ``"float32"``, ``"bfloat16"`` or, on CUDA,
                ``"float16"``.
            non_blocking: Whether the host goes on while the device copies, as :meth:`copy_` says.

        Raises:
            CudaError: If there is no usable CUDA device; the message says what is missing.
            ValueError: If there are not so many devices.
            TypeError: If target is neither.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).to("bfloat16").dtype
            'bfloat16'
        """
        if not isinstance(target, str):
            raise TypeError(f"to: expected a device or a dtype by its name, got {target!r}")
        if is_device(target):
            if target == self.device or _core.device_name(target) == self.device:
                return self
            return apply(_rules.to_device, self, target=target, non_blocking=non_blocking)
        return self if self.dtype == target else apply(_rules.to_dtype, self, target=target)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        return _core.to_dlpack(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _core.dlpack_device(self)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return _core.cuda_array_interface(self)

    # ---- shape, copies, arithmetic -------------------------------------------------------------

    def clone(self) -> Tensor:
        """A copy with its own memory, on the tape.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2).clone().shape
            (2,)
        """
        return apply(_rules.clone, self)

    def __deepcopy__(self, memo: Any) -> Tensor:
        copied = self.detach().clone()
        copied.requires_grad = self.requires_grad
        return copied

    def copy_(self, source: ArrayLike | Tensor, non_blocking: bool = False) -> Tensor:
        """Write the values of ``source`` into this Tensor's memory.

        Args:
            source: Array of the same shape and dtype.
            non_blocking: Whether the host goes on while a CUDA device copies. What is in
                page-locked memory must not be written until it has; it is kept alive for it.

        Example:
            >>> import fastnn as fn
            >>> fn.zeros(2).copy_(np.array([1, 2], np.float32)).numpy()
            array([1., 2.], dtype=float32)
        """
        _core.copy_(self, source, non_blocking)
        return self

    def contiguous(self, memory_format: str = "contiguous_format") -> Tensor:
        """The same values with their elements in another order; itself if it is so already.

        The shape stays (n, c, h, w). Elementwise ops, dropout, norms over channels, convolutions,
        pooling and padding keep the order of their first argument. Elementwise ops, dropout and
        batch norm work in it; the others convert inside. What does not know channels-last takes a
        copy in the order of the shape, and gives its result in that.

        Args:
            memory_format: ``"contiguous_format"``, the order of the shape, or ``"channels_last"``.

        Raises:
            ValueError: If the format is another, or there are not four axes for channels-last.

        Example:
            >>> import fastnn as fn
            >>> x = fn.ones(2, 3, 4, 5).contiguous("channels_last")
            >>> x.shape, x.layout, x.numpy().strides
            ((2, 3, 4, 5), 'nhwc', (240, 4, 60, 12))
        """
        layouts = {"contiguous_format": "nchw", "channels_last": "nhwc"}
        if memory_format not in layouts:
            raise ValueError(
                "contiguous: expected memory_format 'contiguous_format' or 'channels_last', "
                f"got {memory_format!r}"
            )
        target = layouts[memory_format]
        return self if self.layout == target else apply(_rules.to_layout, self, target=target)

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape; one size may be -1. Shares memory.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(2, 3).reshape(-1).shape
            (6,)
        """
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return apply(_rules.reshape, self, shape=list(sizes))

    def sum(self) -> Tensor:
        """The sum of all elements, a scalar; accumulated in float64.

        Example:
            >>> import fastnn as fn
            >>> fn.ones(3).sum().item()
            3.0
        """
        return apply(_rules.sum, self, scale=1.0)

    def mean(self) -> Tensor:
        """The mean of all elements, a scalar; accumulated in float64.

        Raises:
            ValueError: If there are no elements.

        Example:
            >>> import fastnn as fn
            >>> fn.tensor([1.0, 2.0]).mean().item()
            1.5
        """
        n = math.prod(self.shape)
        if n == 0:
            raise ValueError(f"mean: expected at least one element, got shape {self.shape}")
        return apply(_rules.sum, self, scale=1.0 / n)

    def __add__(self, other: Any) -> Tensor:
        return _rules.arithmetic("add", self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _rules.arithmetic("sub", self, other)

    def __mul__(self, other: Any) -> Tensor:
        return _rules.arithmetic("mul", self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _rules.arithmetic("div", self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Tensor:
        return _rules.arithmetic("rsub", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _rules.arithmetic("rdiv", self, other)

    def __neg__(self) -> Tensor:
        return _rules.arithmetic("mul", self, -1.0)

    def __matmul__(self, other: Any) -> Tensor:
        return _rules.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _rules.matmul(_core.share(other), self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: expected a Tensor with an axis, got a scalar")
        return self.shape[0]

    def __float__(self) -> float:
        return self.item()

    def __repr__(self) -> str:
        place = "" if self.device == "cpu" else f", device='{self.device}'"
        grad = ", requires_grad=True" if self.requires_grad else ""
        if _core.is_recording():
            return f"Tensor(shape={self.shape}, dtype={self.dtype}{place}{grad})"
        text = np.array2string(
            np.asarray(self.detach().to("cpu")), separator=", ", prefix="Tensor("
        )
        return f"Tensor({text}, dtype={self.dtype}{place}{grad})"


# ---- making Tensors ------------------------------------------------------------------------------


def tensor(
    data: Any, dtype: str | None = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor with a copy of ``data``.

    Args:
        data: Numbers, nested lists, a NumPy array, or anything with ``__dlpack__``. float64 becomes
            float32, integers become int64.
        dtype: ``"float32"`` or ``"bfloat16"`` to convert; default: as the data.
        device: ``"cpu"``; ``"cuda"``, the current CUDA device, or ``"cuda:1"``, one by index.
        requires_grad: Whether ``backward`` should compute its gradient.

    Raises:
        TypeError: For complex numbers, objects and strings.
        ValueError: For values beyond float32.

    Example:
        >>> import fastnn as fn
        >>> fn.tensor([[1.0, 2.0]]).shape
        (1, 2)
    """
    shared: Any = _core.share(data)
    if dtype is not None and dtype != shared.dtype:
        if shared.dtype in ("int64", "uint8"):
            shared = _core.share(np.asarray(shared).astype(np.float32))
        shared = _core.to_dtype(shared, dtype) if dtype != shared.dtype else shared
    result = _core.clone(shared) if device == "cpu" else _core.to_device(shared, device)
    if requires_grad:
        _check_float("tensor", result)
        result.requires_grad = True
    return result


def as_tensor(data: object) -> Any:
    """A Tensor as it is, on the tape; anything else as a Tensor that shares its memory if it can.

    Example:
        >>> from fastnn.tensor import as_tensor
        >>> as_tensor([1.0, 2.0]).shape
        (2,)
    """
    return data if isinstance(data, Tensor) else _core.share(data)


def _check_float(op: str, x: Any) -> None:
    if x.dtype not in ("float32", "bfloat16", "float16"):
        raise TypeError(
            f"{op}: expected a floating-point Tensor to require a gradient, got {x.dtype}"
        )


_core.set_tensor_type(Tensor, _convert.to_array)
