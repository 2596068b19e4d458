"""Groups of parameters, and going on with another optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from fastnn._checks import checked
from fastnn.nn.module import Module
from fastnn.optim.optimizer import Optimizer

__all__ = ["param_groups_weight_decay", "switch"]

O = TypeVar("O", bound=Optimizer)  # noqa: E741


@checked
def param_groups_weight_decay(
    model: Module, weight_decay: float = 1e-5, no_weight_decay_list: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Split a model's parameters into those to decay and those not to.

    Biases, the parameters of norms and all others with one axis (a PReLU's slopes) are not decayed:
    they do not make a function more complex, and shrinking them shifts it.

    Args:
        model: The model.
        weight_decay: Of the first group; the second has 0.
        no_weight_decay_list: Paths of more parameters not to decay.

    Returns:
        One or two groups, for any optimizer; a group without parameters is left out.

    Raises:
        ValueError: If a path is not one of the model's parameters.

    Example:
        >>> import fastnn as fn
        >>> model = fn.nn.Sequential(fn.nn.Linear(2, 3), fn.nn.LayerNorm(3))
        >>> groups = fn.optim.param_groups_weight_decay(model, 0.01)
        >>> [(len(g["params"]), g["weight_decay"]) for g in groups]
        [(1, 0.01), (3, 0.0)]

    Source:
        Goodfellow, Bengio, Courville 2016, "Deep learning", section 7.1; the name is timm's.
    """
    named = dict(model.named_parameters())
    excluded = set(no_weight_decay_list)
    if unknown := sorted(excluded - named.keys()):
        raise ValueError(
            f"param_groups_weight_decay: expected paths of parameters, got {unknown[0]!r}"
        )
    for path, module in model.named_modules():
        if type(module).__name__.endswith("Norm"):
            excluded |= {f"{path}.{name}" if path else name for name in module._parameters}
    decayed = [p for name, p in named.items() if name not in excluded and len(p.shape) > 1]
    kept = {id(p) for p in decayed}
    rest = [p for p in named.values() if id(p) not in kept]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@checked
def switch(optimizer: Optimizer, to: type[O], **options: Any) -> O:
    """Another optimizer of the same groups: Adam to start with, then SGD to generalise better.

    Groups keep the options that both optimizers have, but for those given; state starts afresh. In
    a Trainer's callback, assign the result to ``trainer.optimizer``.

    Args:
        optimizer: What the training has used so far.
        to: Class of the optimizer to go on with.
        options: Its options. Give lr: a good rate for SGD is far from Adam's.

    Returns:
        The new optimizer.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> adam = fn.optim.Adam([w], weight_decay=0.125)
        >>> sgd = fn.optim.switch(adam, fn.optim.SGD, lr=0.5, momentum=0.9)
        >>> sgd.param_groups[0]["weight_decay"]
        0.125

    Source:
        Keskar, Socher 2017, "Improving generalization performance by switching from Adam to SGD".
    """
    params = [p for g in optimizer.param_groups for p in g["params"]]
    defaults = to(params, **options).defaults
    shared = (defaults.keys() & optimizer.defaults.keys()) - options.keys()
    groups = [{"params": g["params"], **{k: g[k] for k in shared}} for g in optimizer.param_groups]
    return to(groups, **options)
