"""Which backend is selected, and which one runs an operation.

The selection is looked up at every operation: the innermost `use_backend` of this context, then
`set_backend` of the process, then ``TINYML_BACKEND``, then "numpy". An operation runs where its
arrays live, whatever is selected.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.errors import BackendUnavailableError, MixedBackendError
from tinyml_backends.registry import _fastest, _plain, resolve

VARIABLE = "TINYML_BACKEND"


#: "auto" is looked up again for each operation; another name stands for one backend.
_Selection = Backend | Literal["auto"]

_scoped: ContextVar[_Selection | None] = ContextVar("tinyml_backend", default=None)
_process_wide: _Selection | None = None


@contextmanager
def use_backend(which: str | Backend) -> Iterator[Backend]:
    """Select a backend inside a ``with`` block, for this thread or asyncio task only.

    Blocks nest, and the outer selection returns however the block ends. Do not put the block around
    a ``yield`` of a generator: the caller would run under the generator's selection.

    Parameters
    ----------
    which : str or Backend
        "numpy", "numba", "cupy", "cupy:1", "auto", a registered name, or a backend itself.

    Raises
    ------
    ValueError
        If the name is unknown.
    BackendUnavailableError
        If the backend cannot run here.

    Examples
    --------
    >>> import tinyml
    >>> with tinyml.use_backend("numpy") as backend:
    ...     tinyml.current_backend() is backend
    True
    """
    selection = _select(which)
    token = _scoped.set(selection)
    try:
        yield resolve(selection)
    finally:
        _scoped.reset(token)


def set_backend(which: str | Backend | None) -> None:
    """Select a backend for the whole process: all threads, tasks and notebook cells see it.

    Parameters
    ----------
    which : str, Backend or None
        As for `use_backend`; None withdraws an earlier choice.

    Raises
    ------
    ValueError
        If the name is unknown.
    BackendUnavailableError
        If the backend cannot run here. The earlier choice is then kept.

    Examples
    --------
    >>> import tinyml
    >>> tinyml.set_backend("numpy")
    >>> tinyml.set_backend(None)
    """
    global _process_wide
    _process_wide = None if which is None else _select(which)


def current_backend() -> Backend:
    """Return the backend in force here, on which new arrays are made.

    Raises
    ------
    ValueError, BackendUnavailableError
        If ``TINYML_BACKEND`` names an unknown backend, or one that cannot run here.

    Examples
    --------
    >>> import tinyml
    >>> tinyml.current_backend().name
    'numpy'
    """
    return resolve(_selection())


def _selection() -> _Selection:
    return _scoped.get() or _process_wide or _from_environment()


@cache
def _from_environment() -> _Selection:
    which = os.environ.get(VARIABLE, "") or "numpy"
    try:
        return _select(which)
    except (ValueError, BackendUnavailableError) as error:
        raise type(error)(f"{VARIABLE}={which}: {error}") from None


def _select(which: str | Backend) -> _Selection:
    return "auto" if which == "auto" else resolve(which)


def backend_for(*arrays: Array) -> Backend:
    """Return the backend that runs an operation on ``arrays``.

    The selected one if it handles them; otherwise the plain backend of their library.

    Raises
    ------
    TypeError
        If one of them is no array of a known library.
    MixedBackendError
        If they are of different libraries or devices.
    """
    backend = _selection()
    if isinstance(backend, str):
        backend = _of_library(backend, arrays)
    else:
        for array in arrays:  # a loop, since this is a part of the time of a small operation
            if not backend.handles(array):
                backend = _of_library(backend, arrays)
                break
    if len(arrays) > 1:
        places = {backend.device(array) for array in arrays}
        if len(places) > 1:
            raise _mixed(places)
    return backend


def owner_of(array: Array) -> Backend:
    """Return a backend that handles ``array``, to move or describe it: nothing runs, nothing warns.

    The selected one if it handles the array; otherwise the plain backend of its library.

    Raises
    ------
    TypeError
        If it is no array of a known library.
    """
    selected = _selection()
    if isinstance(selected, str) or not selected.handles(array):
        return _plain(array)
    return selected


def _of_library(selected: _Selection, arrays: tuple[Array, ...]) -> Backend:
    owners = [_plain(array) for array in arrays]
    if len({owner.library for owner in owners}) > 1:
        raise _mixed({o.device(a) for o, a in zip(owners, arrays, strict=True)})
    if isinstance(selected, str):
        return _fastest(owners[0].library)
    if owners[0].library == "numpy":
        _warn_of_cpu(selected.name)
    return owners[0]


def _mixed(places: set[str]) -> MixedBackendError:
    return MixedBackendError(
        f"arrays live on {' and '.join(sorted(places))}; one operation needs them in one place: "
        "move them with tinyml.asarray(a, backend) or tinyml.to_numpy(a)"
    )


_warned_of_cpu = False


def _warn_of_cpu(name: str) -> None:
    """Warn, once in a process, that a selected GPU is not what runs; at the user's line."""
    global _warned_of_cpu
    if _warned_of_cpu:
        return
    _warned_of_cpu = True
    frame, level = sys._getframe(), 1
    ours = "tinyml", "tinyml_backends"
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"backend {name!r} is selected, but this operation got NumPy arrays and runs on the CPU; "
        "make its arrays with tinyml.asarray(a)",
        UserWarning,
        stacklevel=level,
    )
