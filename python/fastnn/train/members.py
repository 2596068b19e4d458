"""The models of a training: one, or those of a :class:`fastnn.nn.Stacked`, each with its loss.

What a training does with a model's outputs it does for each member; a model alone is its only one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastnn import F, nn

__all__ = ["by_member", "members_of", "outputs_of", "predictions_of"]


def members_of(model: nn.Module) -> list[nn.Module]:
    """The models that have a loss of their own.

    Example:
        >>> import fastnn as fn
        >>> from fastnn.train.members import members_of
        >>> len(members_of(fn.nn.Stacked(lambda: fn.nn.Linear(3, 2), 4)))
        4
    """
    return model.unstack() if isinstance(model, nn.Stacked) else [model]


def outputs_of(model: nn.Module, x: Any) -> Sequence[Any]:
    """What each member puts out for the same x."""
    return F.unbind(model(x, shared=True)) if isinstance(model, nn.Stacked) else [model(x)]


def predictions_of(model: nn.Module, x: Any) -> list[Any]:
    """The same in evaluation mode, as NumPy arrays."""
    outputs = model.predict(x)
    return list(outputs) if isinstance(model, nn.Stacked) else [outputs]


def by_member(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means over the members, and then the values of member i as ``name_i``.

    Example:
        >>> from fastnn.train.members import by_member
        >>> by_member([{"loss": 1.0}])
        {'loss': 1.0}
        >>> by_member([{"loss": 1.0}, {"loss": 3.0}])
        {'loss': 2.0, 'loss_0': 1.0, 'loss_1': 3.0}
    """
    logs = {name: sum(member[name] for member in each) / len(each) for name in each[0]}
    if len(each) > 1:
        logs |= {f"{name}_{i}": value for i, own in enumerate(each) for name, value in own.items()}
    return logs
