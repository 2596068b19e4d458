"""Mixed precision: products of 16-bit numbers, weights and their updates in float32.

Inside :class:`autocast` every op goes through one of three lists. Products take their arrays as
16-bit numbers; what keeps a dtype (activations, pooling, shapes) keeps it; everything else, known
or not, gets float32: losses, norms and their statistics, sums. Casts are ops on the tape, so that
gradients of float32 weights come back in float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from fastnn import _core, tape
from fastnn._devices import type_of

__all__ = ["GradScaler", "autocast"]

# Names of rules (tape.Node.name). What is in neither list is computed in float32: so are recurrent
# layers, which have no kernels for 16-bit numbers, and convolutions, which have them on CUDA only,
# where they are not made of tensor cores yet.
_PRODUCTS = frozenset({"linear", "matmul"})
# fmt: off
_KEEP = frozenset((
    "activation", "activation_in_place", "add", "binary", "scalar_binary", "maxout", "hardtanh",
    "dropout", "alpha_dropout", "times_noise", "max_pool", "avg_pool", "adaptive_avg_pool",
    "adaptive_max_pool", "fractional_max_pool", "cat", "split", "stack", "unbind", "pad",
    "swap_axes", "reshape", "clone", "to_layout", "to_device", "to_dtype",
))
# fmt: on
_HALVES = ("bfloat16", "float16")


class autocast(contextlib.ContextDecorator):
    """Inside, products (linear, matmul, bmm) are made of 16-bit numbers, and sums are float32.

    Weights stay float32: they are rounded once for all products inside, and their gradients are
    float32. Activations between products are 16-bit numbers, so that they take half the memory.
    Convolutions and recurrent layers are computed in float32, as losses, norms and softmax are.
    Leave it before ``backward``.

    Args:
        device_type: ``"cpu"`` or ``"cuda"``: Tensors of such devices take part.
        dtype: ``"bfloat16"``, or ``"float16"`` on CUDA, whose small gradients need a
            :class:`GradScaler`; default: the first on the CPU, the second on CUDA, as in torch.
        enabled: Whether it does anything; not, inside another one, is an island of float32.

    Raises:
        ValueError: If the device or dtype is another.

    Example:
        >>> import fastnn as fn
        >>> layer = fn.nn.Linear(3, 2)
        >>> with fn.autocast("cpu"):
        ...     y = layer(fn.ones(4, 3))
        ...     loss = (y * y).mean()
        >>> y.dtype, loss.dtype
        ('bfloat16', 'float32')
        >>> loss.backward()
        >>> layer.weight.dtype, layer.weight.grad.dtype
        ('float32', 'float32')

    Source:
        Micikevicius et al. 2018, "Mixed precision training"; Kalamkar et al. 2019, "A study of
        bfloat16 for deep learning training".
    """

    def __init__(
        self, device_type: str = "cpu", dtype: str | None = None, enabled: bool = True
    ) -> None:
        if device_type not in ("cpu", "cuda"):
            raise ValueError(f"autocast: expected device_type 'cpu' or 'cuda', got {device_type!r}")
        self.device_type = device_type
        self.dtype = dtype or ("bfloat16" if device_type == "cpu" else "float16")
        if self.dtype not in _HALVES:
            raise ValueError(f"autocast: expected dtype 'bfloat16' or 'float16', got {dtype!r}")
        if (device_type, self.dtype) == ("cpu", "float16"):
            raise ValueError(
                "autocast: expected dtype 'bfloat16' on cpu, got 'float16', which has kernels on "
                "cuda only"
            )
        self.enabled = enabled
        self._before: list[Any] = []
        # By id: a weight, its version, and its rounded copy.
        self._rounded: dict[int, tuple[Any, Any, Any]] = {}

    def __enter__(self) -> autocast:
        self._before.append(tape.set_autocast(self if self.enabled else None))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tape.set_autocast(self._before.pop())
        if not self._before:
            self._rounded.clear()

    @property
    def key(self) -> tuple[str, str]:
        """What a recording depends on."""
        return self.device_type, self.dtype

    def cast(self, name: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs as the rule of this name takes them."""
        name = name.lstrip("_")
        if name in _PRODUCTS:
            return tuple(map(self._round, inputs))
        if name in _KEEP and len({x.dtype for x in inputs if self._is_float(x)}) < 2:
            return inputs
        return tuple(
            x.to("float32") if self._is_float(x) and x.dtype != "float32" else x for x in inputs
        )

    def _is_float(self, x: Any) -> bool:
        return (
            isinstance(x, _core.TensorBase)
            and type_of(x.device) == self.device_type
            and x.dtype in ("float32", *_HALVES)
        )

    def _round(self, x: Any) -> Any:
        if x is not None and not isinstance(x, _core.TensorBase):
            x = _core.share(x)
        if not self._is_float(x) or x.dtype == self.dtype:
            return x
        if x.dtype != "float32":
            return x.to("float32").to(self.dtype)
        is_weight = x.requires_grad and x._node is None and tape.is_grad_enabled()
        if not is_weight:
            return x.to(self.dtype)
        version = _core.saved_versions(lambda: x)
        known, at, rounded = self._rounded.get(id(x), (None, None, None))
        # A copy whose way back is gone has been used by a backward pass.
        if known is not x or at != version or rounded._node[0].vjp is None:
            rounded = x.to(self.dtype)
            self._rounded[id(x)] = x, version, rounded
        return rounded


class GradScaler:
    """Dynamic loss scaling: float16 gradients too small to store are made larger, then undone.

    The loss is multiplied by a scale before ``backward``; the optimizer divides the gradients by
    it. A step whose gradients are not finite is left out, and the scale shrinks; after
    ``growth_interval`` steps without one it grows. All of it lives in the device's memory: nothing
    waits for the device, and a captured step follows it.

    Args:
        device: Where the gradients are.
        init_scale: The scale before the first step.
        growth_factor: What it grows by, > 1.
        backoff_factor: What it shrinks by, in (0, 1).
        growth_interval: Steps without growth.
        enabled: Whether it does anything.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.SGD([w], lr=0.25)
        >>> scaler = fn.amp.GradScaler("cpu", init_scale=4.0)
        >>> scaler.scale((w * w).sum()).backward()
        >>> w.grad.item()
        8.0
        >>> scaler.step(optimizer)
        >>> scaler.update()
        >>> w.item(), scaler.get_scale()
        (0.5, 4.0)

    Source:
        Micikevicius et al. 2018, "Mixed precision training".
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._set_options(growth_factor, backoff_factor, growth_interval)
        self._check_scale(init_scale, 0)
        if enabled:
            self._scale = _core.to_device(_core.full([2], 0.0, "float32", "cpu"), device)
            self._words = _core.to_device(_core.clone(np.zeros(3, np.int64)), device)
            self._write(init_scale, 0)

    def _set_options(self, growth: float, backoff: float, interval: int) -> None:
        if not 1 < growth < math.inf:
            raise ValueError(f"GradScaler: expected growth_factor > 1, got {growth}")
        if not 0 < backoff < 1:
            raise ValueError(f"GradScaler: expected 0 < backoff_factor < 1, got {backoff}")
        if type(interval) is not int or not 0 < interval < 1 << 62:
            raise ValueError(
                f"GradScaler: expected a whole number growth_interval >= 1, got {interval}"
            )
        self._options = float(growth), float(backoff), interval

    def _check_scale(self, scale: float, good_steps: int) -> None:
        if not 2.0**-126 <= scale < 2.0**128:
            raise ValueError(f"GradScaler: expected a scale > 0 within float32, got {scale}")
        if type(good_steps) is not int or not 0 <= good_steps < 1 << 62:
            raise ValueError(f"GradScaler: expected a number of steps >= 0, got {good_steps}")

    def _write(self, scale: float, good_steps: int) -> None:
        _core.copy_(self._scale, np.array([scale, 1.0 / np.float32(scale)], np.float32))
        ok = -1  # of a Status
        _core.copy_(self._words, np.array([good_steps, ok, ok], np.int64))

    @property
    def memory(self) -> tuple[Any, Any] | None:
        """What the optimizers' kernels read and write; None when not enabled."""
        return (self._scale, self._words) if self._enabled else None

    def is_enabled(self) -> bool:
        """Whether it does anything.

        Example:
            >>> import fastnn as fn
            >>> fn.amp.GradScaler(enabled=False).is_enabled()
            False
        """
        return self._enabled

    def scale(self, outputs: Any) -> Any:
        """The loss, a scalar, times the scale.

        Raises:
            ValueError: If it has more than one element.
        """
        if math.prod(outputs.shape) != 1:
            raise ValueError(
                f"GradScaler.scale: expected a loss with one element, got shape {outputs.shape}"
            )
        if not self._enabled:
            return outputs
        return outputs.to("float32") * _core.item(self._scale, 0).reshape(outputs.shape)

    def step(self, optimizer: Any, *, max_grad_norm: float | None = None) -> None:
        """The optimizer's step, of the gradients divided by the scale, unless one is not finite.

        Args:
            optimizer: Any of ``fn.optim``.
            max_grad_norm: Clips the norm of the gradients divided by the scale.
        """
        scaler = self if self._enabled else None
        optimizer.step(max_grad_norm=max_grad_norm, grad_scaler=scaler)

    def update(self) -> None:
        """After the steps of all optimizers: the scale of the next ones."""
        if self._enabled:
            _core.scaler_update(self._scale, self._words, *self._options)

    def get_scale(self) -> float:
        """The scale; waits for the device. 1 when not enabled."""
        if not self._enabled:
            return 1.0
        return float(np.asarray(self._scale.to("cpu"))[0])

    def state_dict(self) -> dict[str, Any]:
        """torch's; empty when not enabled."""
        if not self._enabled:
            return {}
        growth, backoff, interval = self._options
        return {
            "scale": self.get_scale(),
            "growth_factor": growth,
            "backoff_factor": backoff,
            "growth_interval": interval,
            "_growth_tracker": int(np.asarray(self._words.to("cpu"))[0]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict`, or torch's, returned.

        Raises:
            KeyError: If something is missing.
            ValueError: If a number is out of range; nothing is changed then.
        """
        if not self._enabled:
            return
        scale, good_steps = state["scale"], state["_growth_tracker"]
        self._check_scale(scale, good_steps)
        self._set_options(
            *(state[k] for k in ("growth_factor", "backoff_factor", "growth_interval"))
        )
        self._write(scale, good_steps)
