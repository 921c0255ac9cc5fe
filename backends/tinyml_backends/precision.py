"""How exactly convolutions are computed: a choice of algorithms, for a block or for a program."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

#: "direct": every product and sum in the arrays' dtype, without transforms. "high": whatever is
#: fastest within the bounds of docs/convolution.md.
PRECISIONS = "direct", "high"
VARIABLE = "TINYML_PRECISION"

_selected: "ContextVar[str | None]" = ContextVar("tinyml_precision", default=None)


def current_precision() -> str:
    """Precision of this thread or task: that of `use_precision`, else of the environment.

    Raises
    ------
    ValueError
        If the environment variable TINYML_PRECISION is none of the precisions.

    Examples
    --------
    >>> import tinyml
    >>> with tinyml.use_precision("direct"):
    ...     tinyml.current_precision()
    'direct'
    """
    return _selected.get() or _of_environment(os.environ.get(VARIABLE, ""))


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Context in which this thread or task convolves with a precision.

    Parameters
    ----------
    name : str
        "direct": every product and sum in the arrays' dtype, without transforms. "high", the
        default: the fastest algorithm whose error stays within the bounds stated in
        docs/convolution.md. The environment variable TINYML_PRECISION chooses for a program.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> from tinyml.layers import Conv2D
    >>> conv = Conv2D("conv", (1, 4, 4), 1, 3, rng=0)
    >>> with tinyml.use_precision("direct"):
    ...     conv(np.zeros((1, 1, 4, 4), np.float32)).shape
    (1, 1, 2, 2)
    """
    token = _selected.set(_checked("precision", name))
    try:
        yield
    finally:
        _selected.reset(token)


@lru_cache(maxsize=8)
def _of_environment(value: str) -> str:
    return _checked(VARIABLE, value) if value else "high"


def _checked(name: str, value: str) -> str:
    if value not in PRECISIONS:
        raise ValueError(
            f"{name} is {value!r}; it must be one of {', '.join(map(repr, PRECISIONS))}"
        )
    return value
