"""`Called`, which keeps a constructor's arguments, and names the class where they are wrong."""

from inspect import signature
from typing import Any, Self


class Called:
    """Keeps the arguments of the constructor, from which a checkpoint makes the object again.

    An error about them names the class that was called. Without that, Python names the class where
    ``__init__`` is defined, which a user may never have seen.

    Attributes
    ----------
    given : (tuple, dict)
        Arguments without and with a name.

    Examples
    --------
    >>> from tinyml.layers import ReLU
    >>> ReLU("relu", slope=1)
    Traceback (most recent call last):
    TypeError: ReLU: got an unexpected keyword argument 'slope'; its arguments are name
    """

    given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Make an object, once the arguments are known to fit ``__init__``."""
        if arguments or options:  # copying and unpickling give none
            wanted = signature(cls.__init__)
            try:
                wanted.bind(None, *arguments, **options)
            except TypeError as error:
                names = ", ".join([*wanted.parameters][1:])
                raise TypeError(f"{cls.__name__}: {error}; its arguments are {names}") from None
        made = super().__new__(cls)
        made.given = arguments, options
        return made
