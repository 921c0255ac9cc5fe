"""Clipping of gradients, before a step of an optimizer."""

from collections.abc import Iterable
from typing import Any

from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.optims import Optimizer
from tinyml.optims.base import check
from tinyml_backends import backend_for
from tinyml_backends.arguments import number
from tinyml_backends.arrays import quiet, widened


@quiet
def clip_norm(parameters: Iterable[Parameter], limit: float) -> float:
    """Scale all gradients by one factor, so that their common 2-norm is at most ``limit``.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML
    2013. A norm that is not finite makes the gradients NaN or zero, as in PyTorch.

    Returns
    -------
    float
        The norm before.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.clipping import clip_norm
    >>> from tinyml.core import Parameter
    >>> weight = Parameter(np.zeros(2))
    >>> weight.gradient += [3.0, 4.0]
    >>> clip_norm([weight], 1)
    5.0
    >>> weight.gradient.round(4)
    array([0.6, 0.8])
    """
    limit = number("limit", limit, more_than=0)
    gradients = [p.gradient for p in parameters]
    wide = [widened(g).reshape(-1) for g in gradients]
    norm = float(sum(float(backend_for(g).xp.dot(g, g)) for g in wide) ** 0.5)
    factor = min(1.0, limit / (norm + 1e-6)) if norm == norm else norm
    if factor != 1:
        for gradient in gradients:
            gradient *= factor
    return norm


def clip_value(parameters: Iterable[Parameter], limit: float) -> None:
    """Set every value of the gradients that is outside ±``limit`` to the nearer of the two.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.clipping import clip_value
    >>> from tinyml.core import Parameter
    >>> weight = Parameter(np.zeros(2))
    >>> weight.gradient += [3.0, -0.5]
    >>> clip_value([weight], 1)
    >>> weight.gradient
    array([ 1. , -0.5])
    """
    limit = number("limit", limit, more_than=0)
    for p in parameters:
        backend_for(p.gradient).xp.clip(p.gradient, -limit, limit, out=p.gradient)


class Clipped:
    """An optimizer that clips the gradients before each step.

    Parameters
    ----------
    optimizer : Optimizer
    norm, value : float
        Limits, as of `clip_norm` and `clip_value`; more than 0. By default neither limits.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.clipping import Clipped
    >>> from tinyml.core import Parameter
    >>> from tinyml.optims import SGD
    >>> weight = Parameter(np.zeros(2))
    >>> weight.gradient += [3.0, 4.0]
    >>> Clipped(SGD(1.0), norm=1.0).update([weight])
    >>> weight.tensor.round(4)
    array([-0.6, -0.8])
    """

    norm = Number(more_than=0)
    value = Number(more_than=0)

    def __init__(
        self, optimizer: Optimizer, *, norm: float | None = None, value: float | None = None
    ) -> None:
        self.optimizer = optimizer
        self.clips: dict[str, Any] = {}
        if norm is not None:
            self.norm = norm
            self.clips["norm"] = clip_norm
        if value is not None:
            self.value = value
            self.clips["value"] = clip_value

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.clips)
        return f"Clipped({self.optimizer!r}, {limits})"

    @property
    def learning_rate(self) -> Any:
        """That of the optimizer."""
        return self.optimizer.learning_rate

    def check(self, parameters: Iterable[Parameter]) -> None:
        """Raise ValueError if a gradient or a state has another shape than its tensor."""
        check(self.optimizer, parameters)

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Clip the gradients and take one step."""
        parameters = list(parameters)
        self.check(parameters)  # before the gradients are changed
        for name, clip in self.clips.items():
            clip(parameters, getattr(self, name))
        self.optimizer.update(parameters)
