"""Steps scaled by squared gradients: RMSprop and Adagrad."""

from typing import Any

from tinyml.arrays import zeros_like
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.optims.base import BaseOptimizer
from tinyml.schedules import Schedule
from tinyml_backends.arrays import Array, quiet, widened


class RMSprop(BaseOptimizer):
    """Steps scaled by the root of a running mean of squared gradients.

    Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012.

    Parameters
    ----------
    learning_rate : float or Schedule
        More than 0.
    decay : float
        Of the running mean; at least 0, less than 1.
    epsilon : float
        Added to the root; more than 0.
    momentum : float
        Of the scaled steps; at least 0, less than 1.
    weight_decay : float
        Factor of the weights that is added to the gradient; at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import RMSprop
    >>> weight = Parameter(np.array([1.0]))
    >>> weight.gradient += 2.0
    >>> RMSprop(0.25, decay=0.75).update([weight])
    >>> weight.tensor.round(6)
    array([0.5])
    """

    decay = Number(at_least=0, less_than=1)
    epsilon = Number(more_than=0)
    momentum = Number(at_least=0, less_than=1)

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        decay: float = 0.99,
        epsilon: float = 1e-8,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.decay = decay
        self.epsilon = epsilon
        self.momentum = momentum

    @quiet
    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        if "squares" not in state:
            state["squares"] = zeros_like(widened(p.tensor))
        squares = state["squares"]
        gradient = gradient.astype(squares.dtype, copy=False)
        squares *= self.decay
        squares += (1 - self.decay) * gradient * gradient
        step = gradient / (squares**0.5 + self.epsilon)
        if self.momentum:
            if "velocity" not in state:
                state["velocity"] = zeros_like(widened(p.tensor))
            state["velocity"] *= self.momentum
            state["velocity"] += step
            step = state["velocity"]
        p.tensor -= rate * step


class Adagrad(BaseOptimizer):
    """Steps scaled by the root of the sum of squared gradients (Duchi et al., JMLR 2011).

    Parameters
    ----------
    learning_rate : float or Schedule
        More than 0.
    epsilon : float
        Added to the root; more than 0.
    weight_decay : float
        Factor of the weights that is added to the gradient; at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import Adagrad
    >>> weight = Parameter(np.array([1.0]))
    >>> weight.gradient += 2.0
    >>> Adagrad(0.25).update([weight])
    >>> weight.tensor.round(6)
    array([0.75])
    """

    epsilon = Number(more_than=0)

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.epsilon = epsilon

    @quiet
    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        if "squares" not in state:
            state["squares"] = zeros_like(widened(p.tensor))
        squares = state["squares"]
        gradient = gradient.astype(squares.dtype, copy=False)
        squares += gradient * gradient
        p.tensor -= rate * (gradient / (squares**0.5 + self.epsilon))
