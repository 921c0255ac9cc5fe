"""Stochastic gradient descent."""

from typing import Any

from tinyml.arrays import zeros_like
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.optims.base import BaseOptimizer, array
from tinyml.schedules import Schedule
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, quiet


class SGD(BaseOptimizer):
    """Stochastic gradient descent with momentum.

    ``velocity = momentum · velocity + gradient``, ``tensor −= learning_rate · velocity``
    (Polyak, 1964, in the form of Sutskever et al., ICML 2013, that PyTorch uses).

    Parameters
    ----------
    learning_rate : float or Schedule
        More than 0.
    momentum : float
        At least 0, less than 1.
    nesterov : bool
        Whether to step along ``gradient + momentum · velocity`` (Nesterov, 1983); needs momentum.
    weight_decay : float
        Factor of the weights that is added to the gradient; at least 0.

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

    momentum = Number(at_least=0, less_than=1)

    def __init__(
        self,
        learning_rate: float | Schedule,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = momentum
        self.nesterov = nesterov
        if nesterov and not self.momentum:
            raise ValueError("SGD: nesterov is True and momentum is 0; it must be more than 0")

    @quiet
    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        if self.momentum and "velocity" not in state:
            state["velocity"] = zeros_like(p.tensor)
        velocity, momentum = state["velocity"] if self.momentum else None, self.momentum
        if self.nesterov:
            velocity *= momentum
            velocity += gradient
            gradient = array(gradient + momentum * velocity)
            velocity, momentum = None, 0.0
        backend_for(p.tensor, gradient).sgd_step(p.tensor, gradient, velocity, rate, momentum)
