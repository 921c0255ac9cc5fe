"""Losses that are a mean over elements. The derivations are on the page docs/losses.md."""

from collections.abc import Callable
from typing import Any

from tinyml.core.number import Number, described
from tinyml.functional.elementwise_loss import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_gradient,
    huber_loss,
    huber_loss_gradient,
    l1_loss,
    l1_loss_gradient,
    mse_loss,
    mse_loss_gradient,
)
from tinyml.layers.base import scope_of
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, widened


class _OfElements:
    """Mean of a loss over all elements; the target has the output's shape."""

    _value: Callable[..., Array]
    _slope: Callable[..., Array]

    def __init__(self) -> None:
        self._saved: tuple[Array, Array] | None = None

    def __repr__(self) -> str:
        return described(self)

    def _options(self) -> dict[str, Any]:
        return {}

    def forward(self, output: Array, target: Array) -> float:
        """Mean loss; 0 of no elements.

        Raises
        ------
        ValueError
            If the shapes differ, or a target is NaN.
        """
        backend_for(output, target)  # a clear error for what is no array
        with scope_of(output):
            loss = type(self)._value(widened(output), widened(target), **self._options())
            self._saved = output, target
            return float(loss) if output.size else 0.0

    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the output."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward pass before it")
        output, target = self._saved
        with scope_of(output):
            return type(self)._slope(1.0, output, target, **self._options())


class MSE(_OfElements):
    """Mean of squared differences.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import MSE
    >>> loss = MSE()
    >>> loss.forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    >>> loss.backward()
    array([ 0., -2.])
    """

    _value = staticmethod(mse_loss)
    _slope = staticmethod(mse_loss_gradient)


class L1(_OfElements):
    """Mean of absolute differences.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import L1
    >>> L1().forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """

    _value = staticmethod(l1_loss)
    _slope = staticmethod(l1_loss_gradient)


class Huber(_OfElements):
    """Half the squared difference up to ``delta``, then a line (Huber, 1964).

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import Huber
    >>> Huber(delta=1.0).forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.75
    """

    _value = staticmethod(huber_loss)
    _slope = staticmethod(huber_loss_gradient)
    delta = Number(more_than=0)

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def _options(self) -> dict[str, Any]:
        return {"delta": self.delta}


class BCEWithLogits(_OfElements):
    """Mean binary cross-entropy of the sigmoid; targets are probabilities from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import BCEWithLogits
    >>> round(BCEWithLogits().forward(np.array([0.0, 0.0]), np.array([1.0, 0.0])), 4)
    0.6931
    """

    _value = staticmethod(binary_cross_entropy_with_logits)
    _slope = staticmethod(binary_cross_entropy_with_logits_gradient)
