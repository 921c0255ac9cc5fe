"""`Called`, whose subclasses are named in errors about wrong arguments."""

from inspect import signature
from typing import Any, Self


class Called:
    """Base of classes that inherit ``__init__``: an error names the class that was called.

    Without it, Python names the class where ``__init__`` is defined, which a user may never have
    seen.

    Examples
    --------
    >>> from tinyml.layers import ReLU
    >>> ReLU("relu", slope=1)
    Traceback (most recent call last):
    TypeError: ReLU: got an unexpected keyword argument 'slope'; its arguments are name
    """

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Make an object, once the arguments are known to fit ``__init__``."""
        if arguments or options:  # copying and unpickling give none
            wanted = signature(cls.__init__)
            try:
                wanted.bind(None, *arguments, **options)
            except TypeError as error:
                names = ", ".join([*wanted.parameters][1:])
                raise TypeError(f"{cls.__name__}: {error}; its arguments are {names}") from None
        return super().__new__(cls)
