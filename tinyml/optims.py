"""Optimizers: how gradients change parameters.

What an optimizer keeps for a parameter, such as its velocity, is in ``parameter.state``, so that it
moves with the parameter. It is dropped when another optimizer updates the parameter: a new
optimizer starts afresh, also on a trained model. The same optimizer goes on where it stopped.

The rules are on the page docs/optimizers.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from tinyml.arrays import zeros_like
from tinyml.core.number import Number, described
from tinyml.core.parameter import Parameter
from tinyml.schedules import Schedule
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, quiet


class Optimizer(Protocol):
    """Changes parameters by their gradients; keeps its own state in ``parameter.state``."""

    learning_rate: Any

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step."""


class _Rate(Number):
    """A `Number`, or a `Schedule`."""

    def __set__(self, instance: object, value: object) -> None:
        if isinstance(value, Schedule):
            vars(instance)[self.name] = value
        else:
            super().__set__(instance, value)


class _Optimizer:
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
        for p in parameters:
            self._check(p)
        rate = self.learning_rate
        rate = rate(self.steps) if isinstance(rate, Schedule) else rate
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
        return _array(p.gradient + self.weight_decay * p.tensor)

    def _state(self, parameter: Parameter) -> dict[str, Any]:
        """State of a parameter; a new one if its last step was another optimizer's."""
        if parameter.state.get("optimizer") != self._mark:
            parameter.state = {"optimizer": self._mark}
        return parameter.state

    def _check(self, p: Parameter) -> None:
        is_ours = p.state.get("optimizer") == self._mark
        for name, array in {"gradient": p.gradient, **(p.state if is_ours else {})}.items():
            if getattr(array, "shape", p.tensor.shape) != p.tensor.shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} of a parameter has shape {array.shape}, and "
                    f"its tensor {p.tensor.shape}; set the tensor to one of the same shape, or "
                    "make a new Parameter"
                )


class SGD(_Optimizer):
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
            gradient = _array(gradient + momentum * velocity)
            velocity, momentum = None, 0.0
        backend_for(p.tensor, gradient).sgd_step(p.tensor, gradient, velocity, rate, momentum)


class Adam(_Optimizer):
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


class RMSprop(_Optimizer):
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
            state["squares"] = _wide_zeros(p.tensor)
        squares = state["squares"]
        gradient = gradient.astype(squares.dtype, copy=False)
        squares *= self.decay
        squares += (1 - self.decay) * gradient * gradient
        step = gradient / (squares**0.5 + self.epsilon)
        if self.momentum:
            if "velocity" not in state:
                state["velocity"] = _wide_zeros(p.tensor)
            state["velocity"] *= self.momentum
            state["velocity"] += step
            step = state["velocity"]
        p.tensor -= rate * step


class Adagrad(_Optimizer):
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
            state["squares"] = _wide_zeros(p.tensor)
        squares = state["squares"]
        gradient = gradient.astype(squares.dtype, copy=False)
        squares += gradient * gradient
        p.tensor -= rate * (gradient / (squares**0.5 + self.epsilon))


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

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Take one step with each optimizer."""
        group_of: Mapping[int, int] = {
            id(p): number for number, (group, _) in enumerate(self.groups) for p in group
        }
        chosen: list[list[Parameter]] = [[] for _ in range(len(self.groups) + 1)]
        for p in parameters:
            chosen[group_of.get(id(p), len(self.groups))].append(p)
        optimizers = [*(optimizer for _, optimizer in self.groups), self.others]
        for some, optimizer in zip(chosen, optimizers, strict=True):
            optimizer.update(some)


def _array(result: Array) -> Array:
    """``result``, of which NumPy makes a scalar if it has no axes."""
    return np.asarray(result) if isinstance(result, np.generic) else result


def _wide_zeros(tensor: Array) -> Array:
    """Zeros like ``tensor``; float32 for float16, whose squares overflow."""
    return zeros_like(tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor)
