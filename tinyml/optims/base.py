"""What the optimizers share."""

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from tinyml.core.number import Number, described
from tinyml.core.parameter import Parameter
from tinyml.schedules import Schedule
from tinyml_backends.arguments import number
from tinyml_backends.arrays import Array, quiet


class Optimizer(Protocol):
    """Changes parameters by their gradients; keeps its own state in ``parameter.state``."""

    learning_rate: Any

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step."""


def check(optimizer: Optimizer, parameters: Iterable[Parameter]) -> None:
    """Let an optimizer check its parameters, if it has ``check``; one of the user may have none."""
    if hasattr(optimizer, "check"):
        optimizer.check(parameters)


class _Rate(Number):
    """A `Number`, or a `Schedule`."""

    def __set__(self, instance: object, value: object) -> None:
        if isinstance(value, Schedule):
            vars(instance)[self.name] = value
        else:
            super().__set__(instance, value)


class BaseOptimizer:
    """What the optimizers share: rate, weight decay, and the state of each parameter."""

    learning_rate = _Rate(more_than=0)
    weight_decay = Number(at_least=0)

    def __init__(self, learning_rate: float | Schedule, weight_decay: float) -> None:
        #: Marks the state as this optimizer's; copies of the optimizer and of the model keep it.
        self._mark = uuid4().hex
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps = 0

    def __repr__(self) -> str:
        return described(self)

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step.

        Raises
        ------
        ValueError
            If a gradient, or what is kept for a parameter, has another shape than its tensor.
            Nothing has changed then.
        """
        parameters = list(parameters)
        self.check(parameters)
        rate = self.learning_rate
        if isinstance(rate, Schedule):
            rate = number(f"{type(rate).__name__}({self.steps})", rate(self.steps), at_least=0)
        for p in parameters:
            self._step(p, self._state(p), self._gradient(p), rate)
        self.steps += 1

    def _step(self, p: Parameter, state: dict[str, Any], gradient: Array, rate: float) -> None:
        """Change one parameter."""
        raise NotImplementedError

    @quiet
    def _gradient(self, p: Parameter) -> Array:
        """The gradient, with that of half the squared weights times ``weight_decay``."""
        if not self.weight_decay:
            return p.gradient
        return array(p.gradient + self.weight_decay * p.tensor)

    def _state(self, parameter: Parameter) -> dict[str, Any]:
        """State of a parameter; a new one if its last step was another optimizer's."""
        if parameter.state.get("optimizer") != self._mark:
            parameter.state = {"optimizer": self._mark}
        return parameter.state

    def check(self, parameters: Iterable[Parameter]) -> None:
        """Raise ValueError if a gradient or a state has another shape than its tensor."""
        for p in parameters:
            state = p.state if p.state.get("optimizer") == self._mark else {}
            for name, kept in {"gradient": p.gradient, **state}.items():
                if getattr(kept, "shape", p.tensor.shape) != p.tensor.shape:
                    raise ValueError(
                        f"{type(self).__name__}: {name} of a parameter has shape {kept.shape}, and "
                        f"its tensor {p.tensor.shape}; set the tensor to one of the same shape, or "
                        "make a new Parameter"
                    )


def array(result: Array) -> Array:
    """``result``, of which NumPy makes a scalar if it has no axes."""
    return np.asarray(result) if isinstance(result, np.generic) else result
