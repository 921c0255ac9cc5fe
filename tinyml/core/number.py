"""`Number`, an attribute that is a checked number: a learning rate, a momentum, an epsilon."""

from inspect import signature
from typing import Any

from tinyml_backends.arguments import number


def described(thing: object) -> str:
    """Class of an object and its constructor's arguments, as in ``Huber(delta=1.0)``."""
    names = [name for name in signature(type(thing)).parameters if hasattr(thing, name)]
    values = ", ".join(f"{name}={getattr(thing, name)!r}" for name in names)
    return f"{type(thing).__name__}({values})"


class Number:
    """Attribute that is a finite float; every value assigned to it is checked and converted.

    A layer, loss or optimizer declares its numbers with it. An array without axes, or a NumPy
    scalar, becomes a float, which does not change the dtype of the arrays that it is used with.

    Parameters
    ----------
    **allowed : float
        Options of `tinyml_backends.arguments.number`, such as ``at_least``.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core.number import Number
    >>> class Schedule:
    ...     decay = Number(at_least=0, less_than=1)
    >>> schedule = Schedule()
    >>> schedule.decay = np.float64(0.5)
    >>> schedule.decay
    0.5
    >>> schedule.decay = 2
    Traceback (most recent call last):
    ValueError: Schedule: decay is 2; it must be at least 0 and less than 1
    """

    def __init__(self, **allowed: Any) -> None:
        self.allowed = allowed

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: object, value: object) -> None:
        of = type(instance).__name__
        if hasattr(instance, "name"):  # a layer
            of += f"({instance.name!r})"
        vars(instance)[self.name] = number(f"{of}: {self.name}", value, **self.allowed)
