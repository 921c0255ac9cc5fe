"""Groups of parameters."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinyml.core.parameter import Parameter
from tinyml.optims.base import Optimizer, check


class ParameterGroups:
    """Several optimizers, each for parameters of its own: other rates, or no weight decay.

    Parameters
    ----------
    others : Optimizer
        Of the parameters that are in no group.
    groups : sequence of (parameters, Optimizer)
        A parameter may be in one group.

    Raises
    ------
    ValueError
        If a parameter is in two groups.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import SGD, ParameterGroups
    >>> weight, bias = Parameter(np.ones(1)), Parameter(np.ones(1))
    >>> optimizer = ParameterGroups(SGD(0.1, weight_decay=1.0), [([bias], SGD(0.1))])
    >>> optimizer.update([weight, bias])
    >>> weight.tensor, bias.tensor
    (array([0.9]), array([1.]))
    """

    def __init__(
        self, others: Optimizer, groups: Sequence[tuple[Iterable[Parameter], Optimizer]]
    ) -> None:
        self.others = others
        self.groups = [(list(parameters), optimizer) for parameters, optimizer in groups]
        every = [id(p) for parameters, _ in self.groups for p in parameters]
        if len(every) != len(set(every)):
            raise ValueError("groups: a parameter is in two of them; it may be in one")

    def __repr__(self) -> str:
        return f"ParameterGroups({self.others!r}, {[optimizer for _, optimizer in self.groups]})"

    @property
    def learning_rate(self) -> Any:
        """That of the optimizer of the parameters in no group."""
        return self.others.learning_rate

    def check(self, parameters: Iterable[Parameter]) -> None:
        """Raise ValueError if a gradient or a state has another shape than its tensor."""
        for optimizer, some in self._split(parameters):
            check(optimizer, some)

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step with each optimizer."""
        parameters = list(parameters)
        self.check(parameters)  # of all, before the first is changed
        for optimizer, some in self._split(parameters):
            optimizer.update(some)

    def _split(self, parameters: Iterable[Parameter]) -> list[tuple[Optimizer, list[Parameter]]]:
        group_of: Mapping[int, int] = {
            id(p): number for number, (group, _) in enumerate(self.groups) for p in group
        }
        chosen: list[list[Parameter]] = [[] for _ in range(len(self.groups) + 1)]
        for p in parameters:
            chosen[group_of.get(id(p), len(self.groups))].append(p)
        optimizers = [*(optimizer for _, optimizer in self.groups), self.others]
        return list(zip(optimizers, chosen, strict=True))
