"""Adam, and Adam with a weight decay of its own."""

from typing import Any

from tinyml.arrays import zeros_like
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.optims.base import BaseOptimizer
from tinyml.schedules import Schedule
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, quiet


class Adam(BaseOptimizer):
    """Adam: steps scaled by running moments of the gradient (Kingma and Ba, ICLR 2015).

    Parameters
    ----------
    learning_rate : float or Schedule
        More than 0.
    betas : (float, float)
        Decay of the first and the second moment, each at least 0 and less than 1.
    epsilon : float
        Added to the root of the second moment; more than 0.
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
    >>> from tinyml.optims import Adam
    >>> weight = Parameter(np.array([1.0]))
    >>> weight.gradient += 2.0
    >>> Adam(0.25).update([weight])
    >>> weight.tensor.round(6)
    array([0.75])
    """

    betas = Number(count=2, at_least=0, less_than=1)
    epsilon = Number(more_than=0)

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.betas = betas
        self.epsilon = epsilon

    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        first_decay, second_decay = self.betas
        if "steps" not in state:
            state.update(steps=0, first=zeros_like(p.tensor), second=zeros_like(p.tensor))
        state["steps"] += 1
        # The moments start at zero; dividing by 1 - decay**steps corrects that bias.
        backend_for(p.tensor, gradient).adam_step(
            p.tensor,
            gradient,
            state["first"],
            state["second"],
            self.betas,
            rate / (1 - first_decay ** state["steps"]),
            1 - second_decay ** state["steps"],
            self.epsilon,
        )


class AdamW(Adam):
    """Adam whose weight decay is a step of its own, ``tensor −= learning_rate · decay · tensor``.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. The parameters are
    those of `Adam`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import AdamW
    >>> weight = Parameter(np.array([1.0]))
    >>> AdamW(0.5, weight_decay=0.5).update([weight])
    >>> weight.tensor
    array([0.75])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay)

    def _gradient(self, p: Parameter) -> Array:
        return p.gradient

    @quiet
    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        p.tensor *= 1 - rate * self.weight_decay
        super()._step(p, state, gradient, rate)
