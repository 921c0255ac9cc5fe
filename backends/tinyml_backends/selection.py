"""Which backend is selected, and which one runs an operation.

The selection is looked up at every operation: the innermost `use_backend` of this context, then
`set_backend` of the process, then ``TINYML_BACKEND``, then "numpy". An operation always runs in the
library and on the device of its arrays, whatever is selected.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.errors import BackendUnavailableError, MixedBackendError, warn_caller
from tinyml_backends.registry import _default_for, _fastest, resolve

VARIABLE = "TINYML_BACKEND"

#: "auto" depends on the arrays of each operation; any other name stands for one backend.
_Selection = Backend | Literal["auto"]

_scoped: ContextVar[_Selection | None] = ContextVar("tinyml_backend", default=None)
_process_wide: _Selection | None = None


@contextmanager
def use_backend(which: str | Backend) -> Iterator[Backend]:
    """Select a backend inside a ``with`` block, for this thread or asyncio task only.

    Blocks can be nested. At the end of a block, also by an exception, the earlier selection is
    restored. Do not put a ``yield`` of a generator into the block: the generator's caller would
    then run with this selection.

    Parameters
    ----------
    which : str or Backend
        "numpy", "numba", "cupy", "cupy:1", "auto", the name of a registered or installed backend,
        or a backend itself. "auto" runs each operation on the fastest backend for its arrays.

    Raises
    ------
    TypeError
        If ``which`` is neither a string nor a backend.
    ValueError
        If the name is unknown, or has an invalid device number, or one though it has no devices.
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
        As for `use_backend`; None undoes an earlier `set_backend`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As for `use_backend`. The earlier selection is then kept.

    Examples
    --------
    >>> import tinyml
    >>> tinyml.set_backend("numpy")
    >>> tinyml.set_backend(None)
    """
    global _process_wide
    _process_wide = None if which is None else _select(which)


def current_backend() -> Backend:
    """Return the selected backend, on which new arrays are made.

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

    It is the selected one if that handles them; otherwise numpy for NumPy arrays, cupy for CuPy
    arrays, and for others the first installed or registered backend that handles them. If "auto" is
    selected, it is the fastest backend of their library.

    Raises
    ------
    TypeError
        If one of them is not an array of a known library.
    MixedBackendError
        If they are of different libraries or devices.
    """
    backend = _selection()
    if isinstance(backend, str):
        backend = _of_library(backend, arrays)
    else:
        for array in arrays:  # not `all(...)`, which would slow small operations down
            if not backend.handles(array):
                backend = _of_library(backend, arrays)
                break
    if len(arrays) > 1:
        places = {backend.device(array) for array in arrays}
        if len(places) > 1:
            raise _mixed(places)
    return backend


def owner_of(array: Array) -> Backend:
    """Return a backend that handles ``array``, for moving or describing it.

    It is the selected one if that handles the array; otherwise as for `backend_for`. As no
    operation runs, there is no warning if the array is on the CPU and a GPU is selected.

    Raises
    ------
    TypeError
        If it is not an array of a known library.
    """
    selected = _selection()
    if isinstance(selected, str) or not selected.handles(array):
        return _default_for(array)
    return selected


def _of_library(selected: _Selection, arrays: tuple[Array, ...]) -> Backend:
    if not arrays:
        return resolve(selected)
    owners = [_default_for(array) for array in arrays]
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
    """Warn once per process, at the user's line, that a selected GPU does not run an operation."""
    global _warned_of_cpu
    if _warned_of_cpu:
        return
    _warned_of_cpu = True
    warn_caller(
        f"backend {name!r} is selected, but this operation got NumPy arrays and runs on the CPU; "
        "make its arrays with tinyml.asarray(a)"
    )
