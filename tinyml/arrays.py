"""Conversion of arrays to and from backends, and checks that several operations share."""

from collections.abc import Sequence

import numpy as np

from tinyml_backends import DTYPES, Backend, current_backend, owner_of, resolve
from tinyml_backends.arrays import Array

_ALLOWED = frozenset(DTYPES)


def asarray(a: object, backend: str | Backend | None = None) -> Array:
    """Convert anything array-like to an array of a backend's library; copy only where needed.

    Parameters
    ----------
    a : array-like
        A number, a nested sequence, an array, or an object that offers DLPack (a CPU tensor of
        another library shares its memory).
    backend : str, Backend or None
        Backend that makes the array; None means the selected one.

    Raises
    ------
    TypeError
        If ``a`` cannot be converted to an array of numbers or truth values.
    ValueError, BackendUnavailableError
        If the backend is unknown or cannot run.

    Examples
    --------
    >>> import tinyml
    >>> tinyml.asarray([[1.0, 2.0]]).shape
    (1, 2)
    """
    chosen = current_backend() if backend is None else resolve(backend)
    try:
        array = chosen.asarray(a)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise TypeError(f"a is a {type(a).__name__} with no array form: {error}") from error
    if array.dtype.kind not in "biufc":
        raise TypeError(f"a has dtype {array.dtype}; it must hold numbers or truth values")
    return array


def to_numpy(a: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    """NumPy array with the values of ``a``; ``a`` itself if it is a NumPy array.

    Raises
    ------
    TypeError
        If ``a`` is not an array of a known library.

    Examples
    --------
    >>> import numpy, tinyml
    >>> tinyml.to_numpy(numpy.arange(3))
    array([0, 1, 2])
    """
    return owner_of(a).to_numpy(a)


def zeros_like(array: Array) -> Array:
    """Zeros of the same shape and dtype, on the same device."""
    owner = owner_of(array)
    with owner.scope(array):
        return owner.xp.zeros_like(array)


def check_dtype(name: str, array: Array) -> None:
    """Raise TypeError for a dtype that pooling does not support."""
    if array.dtype not in _ALLOWED:
        allowed = ", ".join(map(str, DTYPES))
        raise TypeError(
            f"{name} has dtype {array.dtype}; allowed are {allowed}, in the machine's byte order"
        )


def check_shape(name: str, array: Array, expected: Sequence[int | str]) -> None:
    """Raise ValueError for another shape than ``expected``, where a str stands for any length."""
    shape = tuple(array.shape)
    if shape == expected:
        return
    if len(shape) != len(expected) or any(
        not isinstance(e, str) and e != n for n, e in zip(shape, expected, strict=True)
    ):
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"{name} has shape {shape}; it must be ({wanted})")


def check_out(
    name: str,
    out: Array,
    shape: tuple[int, ...],
    dtype: "np.dtype[np.generic]",
    *inputs: tuple[str, Array],
) -> None:
    """Check that a kernel can write its result directly into ``out``.

    Raises
    ------
    TypeError
        If it has another dtype.
    ValueError
        If it has another shape, is not contiguous, is read-only or shares memory with an input.
    """
    if out.dtype != dtype:
        raise TypeError(f"{name} has dtype {out.dtype}; it must be {dtype}")
    check_shape(name, out, shape)
    if not out.flags.c_contiguous:
        raise ValueError(f"{name} is not contiguous in row-major order; results are written so")
    if not getattr(out.flags, "writeable", True):  # CuPy's arrays are never read-only
        raise ValueError(f"{name} is read-only")
    for other, array in inputs:
        if owner_of(out).xp.may_share_memory(out, array):
            raise ValueError(
                f"{name} shares memory with {other}, which is read while it is written"
            )
