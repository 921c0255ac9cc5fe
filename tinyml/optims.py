"""Optimizers: how gradients change parameters.

What an optimizer keeps for a parameter, such as its velocity, is in ``parameter.state``, so that it
moves with the parameter. It is dropped when another optimizer updates the parameter: a new
optimizer starts afresh, also on a trained model. The same optimizer goes on where it stopped.
"""

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import uuid4

from tinyml.arrays import zeros_like
from tinyml.core.number import Number, described
from tinyml.core.parameter import Parameter
from tinyml_backends import backend_for


class Optimizer(Protocol):
    """Changes parameters by their gradients; keeps its own state in ``parameter.state``."""

    learning_rate: float

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step."""


class _Optimizer:
    """What the optimizers share: the state of each parameter is that of one optimizer."""

    def __init__(self) -> None:
        #: Marks the state as this optimizer's; copies of the optimizer and of the model keep it.
        self._mark = uuid4().hex

    def __repr__(self) -> str:
        return described(self)

    def _state(self, parameter: Parameter) -> dict[str, Any]:
        """State of a parameter; a new one if its last step was another optimizer's."""
        if parameter.state.get("optimizer") != self._mark:
            parameter.state = {"optimizer": self._mark}
        return parameter.state


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum.

    ``velocity = momentum · velocity + gradient``, ``tensor −= learning_rate · velocity``
    (Polyak, 1964, in the form of Sutskever et al., ICML 2013, that PyTorch uses).

    Parameters
    ----------
    learning_rate : float
        More than 0.
    momentum : float
        At least 0, less than 1.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or lies outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import SGD
    >>> weight = Parameter(np.array([1.0]))
    >>> weight.gradient += 2.0
    >>> SGD(0.25).update([weight])
    >>> weight.tensor
    array([0.5])
    """

    learning_rate = Number(more_than=0)
    momentum = Number(at_least=0, less_than=1)

    def __init__(self, learning_rate: float, momentum: float = 0.0) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.momentum = momentum

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step."""
        for p in parameters:
            state = self._state(p)
            if self.momentum and "velocity" not in state:
                state["velocity"] = zeros_like(p.tensor)
            velocity = state["velocity"] if self.momentum else None
            backend = backend_for(p.tensor, p.gradient)
            backend.sgd_step(p.tensor, p.gradient, velocity, self.learning_rate, self.momentum)


class Adam(_Optimizer):
    """Adam: steps scaled by running moments of the gradient (Kingma and Ba, ICLR 2015).

    Parameters
    ----------
    learning_rate : float
        More than 0.
    betas : (float, float)
        Decay of the first and the second moment, each at least 0 and less than 1.
    epsilon : float
        Added to the root of the second moment; more than 0.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or lies outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import Adam
    >>> weight = Parameter(np.array([1.0]))
    >>> weight.gradient += 2.0
    >>> Adam(0.25).update([weight])
    >>> weight.tensor.round(6)
    array([0.75])
    """

    learning_rate = Number(more_than=0)
    betas = Number(count=2, at_least=0, less_than=1)
    epsilon = Number(more_than=0)

    def __init__(
        self,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step."""
        first_decay, second_decay = self.betas
        for p in parameters:
            state = self._state(p)
            if "steps" not in state:
                state.update(steps=0, first=zeros_like(p.tensor), second=zeros_like(p.tensor))
            state["steps"] += 1
            # The moments start at zero; dividing by 1 - decay**steps corrects that bias.
            rate = self.learning_rate / (1 - first_decay ** state["steps"])
            correction = 1 - second_decay ** state["steps"]
            backend_for(p.tensor, p.gradient).adam_step(
                p.tensor,
                p.gradient,
                state["first"],
                state["second"],
                self.betas,
                rate,
                correction,
                self.epsilon,
            )
