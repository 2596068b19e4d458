"""Module: a tree of layers, its parameters and its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn import _core
from fastnn._checks import Checked
from fastnn._devices import is_device
from fastnn.capture import note_module
from fastnn.tensor import Tensor, as_tensor, no_grad, tensor

__all__ = ["Module", "parameter"]

Hook = Callable[["Module", tuple[Any, ...], Any], Any]


def parameter(data: Any) -> Tensor:
    """A Tensor that a Module trains: a copy of the data that requires a gradient.

    Example:
        >>> import fastnn as fn
        >>> fn.nn.parameter([1.0]).requires_grad
        True
    """
    return tensor(data, requires_grad=True)


class Module(Checked):
    """Base of all layers.

    Subclasses set parameters and submodules as attributes and define forward.

    Attributes:
        training: True in training mode; see :meth:`train` and :meth:`eval`.

    Example:
        >>> import fastnn as fn
        >>> class Twice(fn.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = fn.nn.Linear(2, 2)
        ...     def forward(self, x):
        ...         return self.layer(self.layer(x))
        >>> [name for name, _ in Twice().named_parameters()]
        ['layer.weight', 'layer.bias']
    """

    training: bool

    def __init__(self) -> None:
        self.training = True
        self._name = ""
        self._parameters: dict[str, None] = {}
        self._buffers: dict[str, None] = {}
        self._modules: dict[str, None] = {}
        self._forward_hooks: list[Hook] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self._modules[name] = None
            value._name = name
        elif isinstance(value, Tensor) and value.requires_grad and value._node is None:
            self._parameters[name] = None
        object.__setattr__(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}: expected a forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward and the hooks; name this layer in what goes wrong."""
        if _core.is_recording():
            note_module(self)
        try:
            y = self.forward(*args, **kwargs)
        except (ValueError, TypeError) as error:
            self._name_in(error)
            raise
        for hook in self._forward_hooks:
            changed = hook(self, args, y)
            y = y if changed is None else changed
        return y

    def _name_in(self, error: Exception) -> None:
        """Write this layer's path into "<op>: message": "<op> 'path': message"."""
        if not self._name or not error.args or not isinstance(error.args[0], str):
            return
        inner = getattr(error, "_fastnn_path", "")
        op, _, rest = error.args[0].partition(f" '{inner}': " if inner else ": ")
        if rest:
            path = f"{self._name}.{inner}" if inner else self._name
            error._fastnn_path = path  # type: ignore[attr-defined]
            error.args = (f"{op} '{path}': {rest}", *error.args[1:])

    def register_forward_hook(self, hook: Hook) -> Callable[[], None]:
        """Call ``hook(module, inputs, output)`` after forward; what it returns replaces the output.

        A hooked layer is not fused with its neighbour. Returns a function that removes the hook.

        Example:
            >>> import fastnn as fn
            >>> layer = fn.nn.ReLU()
            >>> remove = layer.register_forward_hook(lambda module, x, y: print(y.shape))
            >>> _ = layer([1.0])
            (1,)
            >>> remove()
        """
        self._forward_hooks.append(hook)
        return lambda: self._forward_hooks.remove(hook)

    # ---- the tree ----------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct submodules."""
        for name in self._modules:
            yield name, getattr(self, name)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, each once."""
        stack: list[tuple[str, Module]] = [(prefix, self)]
        seen: set[int] = set()
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            below = [(f"{path}.{name}" if path else name, m) for name, m in module.children()]
            stack.extend(reversed(below))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, Tensor) of all parameters, each once."""
        yield from self._named("_parameters")

    def parameters(self) -> Iterator[Tensor]:
        """All parameters, each once, in the order of named_parameters."""
        for _, p in self._named("_parameters"):
            yield p

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """(path, Tensor) of the state that is not trained."""
        yield from self._named("_buffers")

    def register_buffer(self, name: str, value: Tensor) -> None:
        """Keep a Tensor that belongs to the state but is not trained."""
        self._buffers[name] = None
        object.__setattr__(self, name, value)

    def _named(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name in getattr(module, kind):
                value = getattr(module, name)
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    # ---- modes and devices ---------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Set training mode for this module and all below.

        Example:
            >>> import fastnn as fn
            >>> fn.nn.Dropout().eval().training
            False
        """
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set evaluation mode: ``train(False)``."""
        return self.train(False)

    def to(self, target: str) -> Module:
        """Move parameters and buffers to a device, or convert the parameters to a dtype.

        Do this before making an optimizer: parameters are replaced.

        Args:
            target: As :meth:`fastnn.Tensor.to` takes it.

        Raises:
            CudaError: If there is no usable CUDA device.
            ValueError: If there are not so many devices.
        """
        for _, module in self.named_modules():
            buffers = module._buffers if is_device(target) else ()
            for name in (*module._parameters, *buffers):
                value = getattr(module, name)
                if value is not None:
                    moved = value.detach().to(target)
                    moved.requires_grad = value.requires_grad
                    object.__setattr__(module, name, moved)
        return self

    # ---- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by path, sharing memory; keys and layouts are torch's.

        Example:
            >>> import fastnn as fn
            >>> sorted(fn.nn.Linear(2, 1).state_dict())
            ['bias', 'weight']
        """
        return {k: v.detach() for k, v in (*self.named_parameters(), *self.named_buffers())}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values into the parameters and buffers, which keep their memory.

        Args:
            state: Arrays or Tensors by path.
            strict: Whether missing or unknown keys are errors.

        Raises:
            ValueError: If keys or shapes differ; nothing is changed then.

        Example:
            >>> import fastnn as fn
            >>> a, b = fn.nn.Linear(2, 1), fn.nn.Linear(2, 1)
            >>> a.load_state_dict(b.state_dict())
        """
        own = dict((*self.named_parameters(), *self.named_buffers()))
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if strict and (missing or unknown):
            raise ValueError(
                f"load_state_dict: expected the keys of {type(self).__name__}, "
                f"got missing {missing} and unknown {unknown}"
            )
        values = {k: _core.share(state[k]) for k in own if k in state}
        for k, v in values.items():
            if v.shape != own[k].shape or v.dtype != own[k].dtype:
                raise ValueError(
                    f"load_state_dict: expected {k!r} of shape {own[k].shape} and dtype "
                    f"{own[k].dtype}, got {v.shape} and {v.dtype}"
                )
        for k, v in values.items():
            own[k].copy_(v)

    def num_parameters(self) -> int:
        """Number of trained scalars.

        Example:
            >>> import fastnn as fn
            >>> fn.nn.Linear(2, 3).num_parameters()
            9
        """
        return sum(math.prod(p.shape) for p in self.parameters())

    def extra_repr(self) -> str:
        """The constructor's arguments, for repr and summary."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self.children()]
        body = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({body})"

    def summary(self) -> str:
        """A table of layers and parameters.

        Example:
            >>> import fastnn as fn
            >>> print(fn.nn.Sequential(fn.nn.Linear(2, 3), fn.nn.ReLU()).summary())
            layer  type                                      parameters
            0      Linear(in_features=2, out_features=3)              9
            1      ReLU()                                             0
            total                                                     9  (36 bytes)
        """
        rows = [
            (
                path,
                repr(m),
                sum(
                    math.prod(getattr(m, n).shape)
                    for n in m._parameters
                    if getattr(m, n) is not None
                ),
            )
            for path, m in self.named_modules()
            if not m._modules
        ]
        width = max([5, *(len(path) for path, _, _ in rows)])
        kind = max([40, *(len(text) for _, text, _ in rows)])
        size = sum(
            p.numpy().nbytes
            if p.device == "cpu" and p.dtype == "float32"
            else 4 * math.prod(p.shape)
            for p in (q.detach() for q in self.parameters())
        )
        lines = [f"{'layer':{width}}  {'type':{kind}}  parameters"]
        lines += [f"{path:{width}}  {text:{kind}}  {n:10,}" for path, text, n in rows]
        lines.append(
            f"{'total':{width}}  {'':{kind}}  {self.num_parameters():10,}  ({size:,} bytes)"
        )
        return "\n".join(lines)

    # ---- inference -------------------------------------------------------------------------------

    def predict(self, x: Any, batch_size: int = 1024) -> np.ndarray[Any, Any]:
        """Outputs for x in evaluation mode, as a NumPy array.

        Args:
            x: Array of shape (n, ...).
            batch_size: Rows per forward pass.

        Returns:
            Array of shape (n, ...).

        Example:
            >>> import fastnn as fn
            >>> fn.nn.Linear(2, 3).predict([[0.0, 1.0]]).shape
            (1, 3)
        """
        if batch_size < 1:
            raise ValueError(f"predict: expected batch_size >= 1, got {batch_size}")
        data = as_tensor(x)
        rows = np.asarray(data)
        modes = [(m, m.training) for _, m in self.named_modules()]
        self.eval()
        try:
            with no_grad():
                starts = range(0, max(len(rows), 1), batch_size)
                outputs = [np.array(self(rows[i : i + batch_size])) for i in starts]
        finally:
            for module, mode in modes:
                module.training = mode
        return np.concatenate(outputs)

    def predict_proba(self, x: Any, batch_size: int = 1024) -> np.ndarray[Any, Any]:
        """Class probabilities for x: softmax of :meth:`predict`.

        Example:
            >>> import fastnn as fn
            >>> fn.nn.Linear(2, 1).predict_proba([[0.0, 1.0]])
            array([[1.]], dtype=float32)
        """
        return np.asarray(_core.softmax_fwd(self.predict(x, batch_size), False))
