"""fastnn: fast kernels for training neural networks, NumPy in and NumPy out."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from fastnn import amp, cuda, functional, nn, optim, random
from fastnn import functional as F
from fastnn._core import CaptureError, CudaError
from fastnn._version import __version__
from fastnn.amp import autocast
from fastnn.capture import capture
from fastnn.functional.linear import bmm, matmul
from fastnn.random import manual_seed
from fastnn.system import (
    get_float32_matmul_precision,
    get_num_threads,
    set_float32_matmul_precision,
    set_num_threads,
)
from fastnn.tensor import (
    Tensor,
    enable_grad,
    from_dlpack,
    from_numpy,
    is_grad_enabled,
    no_grad,
    ones,
    tensor,
    zeros,
)

if TYPE_CHECKING:
    from fastnn import data, experiments, inspect, recipes, testing, train
    from fastnn.testing.gradcheck import gradcheck
    from fastnn.train.trainer import History, Trainer

__all__ = [
    "CaptureError",
    "CudaError",
    "F",
    "History",
    "Tensor",
    "Trainer",
    "__version__",
    "amp",
    "autocast",
    "bmm",
    "capture",
    "cuda",
    "data",
    "enable_grad",
    "experiments",
    "from_dlpack",
    "from_numpy",
    "functional",
    "get_float32_matmul_precision",
    "get_num_threads",
    "gradcheck",
    "inspect",
    "is_grad_enabled",
    "manual_seed",
    "matmul",
    "nn",
    "no_grad",
    "ones",
    "optim",
    "random",
    "recipes",
    "set_float32_matmul_precision",
    "set_num_threads",
    "tensor",
    "testing",
    "train",
    "zeros",
]

# Imported on first use, so that `import fastnn` stays at the price of NumPy.
_LAZY = {
    "Trainer": "fastnn.train.trainer",
    "History": "fastnn.train.trainer",
    "gradcheck": "fastnn.testing.gradcheck",
}
_LAZY_MODULES = ("data", "experiments", "inspect", "recipes", "testing", "train")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(_import_module(_LAZY[name]), name)
    elif name in _LAZY_MODULES:
        value = _import_module(f"fastnn.{name}")
    else:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    globals()[name] = value
    return value
