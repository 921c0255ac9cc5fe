"""Names to backends: who is known, who is selected, and who runs an operation.

A backend is imported when it is first asked for, so that neither ``import tinyml`` nor a run on
NumPy loads CuPy or Numba. The selection is looked up at every operation: the innermost
`use_backend` of this context, then `set_backend` of the process, then ``TINYML_BACKEND``, then
"numpy". The arrays have the last word: an operation runs where they live.
"""

import difflib
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import cast

from tinyml_backends.arrays import Array
from tinyml_backends.backend import Backend
from tinyml_backends.errors import BackendUnavailableError, MixedBackendError

Target = str | Callable[..., Backend]

ENTRY_POINTS = "tinyml.backends"
VARIABLE = "TINYML_BACKEND"

_BUILT_IN: dict[str, Target] = {
    "numpy": "tinyml_backends.numpy_backend:NumpyBackend",
    "numba": "tinyml_backends.planned:numba",
    "cupy": "tinyml_backends.planned:cupy",
}
#: For `auto`, the backends of a library from fast to plain; others follow in order of registration.
_FASTEST_FIRST = {"numpy": ("numba", "numpy"), "cupy": ("cupy",)}

_registered: dict[str, Target] = {}
_made: dict[tuple[str, int | None], Backend] = {}


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One line of `backends()`: a known name, and why it cannot run here, if so."""

    name: str
    available: bool
    reason: str
    """Empty for an available backend; otherwise what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class _Selection:
    backend: Backend | None
    """None stands for ``auto``."""


_scoped: ContextVar[_Selection | None] = ContextVar("tinyml_backend", default=None)
_process_wide: _Selection | None = None


# -- selection ---------------------------------------------------------------------------------


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
        yield _for_new_arrays(selection)
    finally:
        _scoped.reset(token)


def set_backend(which: str | Backend | None) -> None:
    """Select a backend for the whole process: all threads, tasks and notebook cells see it.

    Parameters
    ----------
    which : str, Backend or None
        As for `use_backend`; None takes an earlier choice back.

    Raises
    ------
    ValueError
        If the name is unknown.
    BackendUnavailableError
        If the backend cannot run here. The earlier choice then stays.

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
    return _for_new_arrays(_selection())


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
    return _Selection(None if which == "auto" else resolve(which))


def _for_new_arrays(selection: _Selection) -> Backend:
    if selection.backend is not None:
        return selection.backend
    try:
        return resolve("cupy")
    except BackendUnavailableError:
        return _fastest("numpy")


# -- names -------------------------------------------------------------------------------------


def register_backend(name: str, target: Target) -> None:
    """Make a backend known under a name; registering a name again replaces it.

    Parameters
    ----------
    name : str
        A name of letters, digits, "-" and "_". The built-in names are taken.
    target : str or callable
        ``"module:Class"``, imported when the backend is first asked for, or a callable without
        arguments that returns a `Backend`. An installed package can offer its backend without this
        call, through an entry point of the group ``tinyml.backends``.

    Raises
    ------
    ValueError
        If the name is taken or malformed, or the target names no module and class.

    Examples
    --------
    >>> import tinyml
    >>> from tinyml_backends.numpy_backend import NumpyBackend
    >>> class Mine(NumpyBackend):
    ...     name = "mine"
    >>> tinyml.register_backend("mine", Mine)
    >>> with tinyml.use_backend("mine") as backend:
    ...     backend.name
    'mine'
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name is {name!r}; it must be letters, digits, '-' and '_'")
    if name == "auto" or name in _BUILT_IN:
        raise ValueError(f"name is {name!r}, which is built in; choose another")
    if not callable(target) and target.count(":") != 1:
        raise ValueError(f"target is {target!r}; it must be 'module:Class' or a callable")
    _registered[name] = target
    for key in [key for key in _made if key[0] == name]:
        del _made[key]


def backends() -> list[BackendStatus]:
    """Return every known backend with its availability, and the reason where it cannot run.

    Examples
    --------
    >>> import tinyml
    >>> [status.name for status in tinyml.backends() if status.available][0]
    'numpy'
    """
    return [_status(name) for name in _targets()]


def _status(name: str) -> BackendStatus:
    try:
        resolve(name)
    except BackendUnavailableError as error:
        return BackendStatus(name, False, str(error).removeprefix(f"backend {name!r} cannot run: "))
    return BackendStatus(name, True, "")


def resolve(which: str | Backend) -> Backend:
    """Backend of a name, made on first use; "auto" gives the one for new arrays."""
    if isinstance(which, Backend):
        return which
    if which == "auto":
        return _for_new_arrays(_Selection(None))
    if not isinstance(which, str):
        raise TypeError(f"a backend is named by a str or is a Backend; got {type(which).__name__}")
    name, _, device = which.partition(":")
    targets = _targets()
    if name not in targets:
        raise ValueError(_unknown(which, [*targets, "auto"]))
    number = _device_number(which, device)
    if (name, number) not in _made:
        _made[name, number] = _make(which, targets[name], number)
    return _made[name, number]


def _targets() -> dict[str, Target]:
    return {**_BUILT_IN, **_entry_points(), **_registered}


@cache
def _entry_points() -> dict[str, Target]:
    from importlib.metadata import entry_points  # slow to import, and not needed for NumPy

    found = entry_points(group=ENTRY_POINTS)
    return {point.name: point.value for point in found if point.name not in _BUILT_IN}


def _unknown(which: str, known: list[str]) -> str:
    close = difflib.get_close_matches(which, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown backend {which!r}; known are {', '.join(map(repr, known))}{hint}"


def _device_number(which: str, device: str) -> int | None:
    if ":" not in which:
        return None
    if not device.isdecimal():
        raise ValueError(f"backend {which!r} must end in a device number, for example 'cupy:1'")
    return int(device)


def _make(which: str, target: Target, device: int | None) -> Backend:
    factory = _imported(which, target)
    if device is not None and not getattr(factory, "has_devices", False):
        raise ValueError(
            f"backend {which!r}: {which.partition(':')[0]!r} has no devices to choose from"
        )
    try:
        backend = factory() if device is None else factory(device=device)
    except BackendUnavailableError as error:
        raise _unavailable(which, str(error)) from error
    except Exception as error:  # drivers and compilers raise exceptions of their own
        raise _unavailable(which, f"{type(error).__name__}: {error}") from error
    if not isinstance(backend, Backend):
        raise _unavailable(
            which, f"its target made a {type(backend).__name__}, which is no Backend"
        )
    return backend


def _imported(which: str, target: Target) -> Callable[..., Backend]:
    if callable(target):
        return target
    module, _, attribute = target.partition(":")
    try:
        return cast("Callable[..., Backend]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise _unavailable(which, f"{target}: {error}") from error


def _unavailable(which: str, reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(f"backend {which!r} cannot run: {reason}")


# -- operations --------------------------------------------------------------------------------


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
    selected = _selection().backend
    if selected is not None and all(map(selected.handles, arrays)):
        backend = selected
    else:
        backend = _of_library(selected, arrays)
    if len(arrays) > 1:
        places = sorted({backend.device(array) for array in arrays})
        if len(places) > 1:
            raise MixedBackendError(_mixed(places))
    return backend


def _of_library(selected: Backend | None, arrays: tuple[Array, ...]) -> Backend:
    owners = [_plain(array) for array in arrays]
    places = sorted({owner.device(a) for owner, a in zip(owners, arrays, strict=True)})
    if len({owner.library for owner in owners}) > 1:
        raise MixedBackendError(_mixed(places))
    if selected is None:
        return _fastest(owners[0].library)
    if owners[0].library == "numpy":
        _warn_of_cpu(selected.name)
    return owners[0]


def _plain(array: Array) -> Backend:
    """Plain backend of an array's library."""
    if resolve("numpy").handles(array):
        return resolve("numpy")
    if type(array).__module__.partition(".")[0] == "cupy":  # known without importing CuPy
        return resolve("cupy")
    for name in (*_entry_points(), *_registered):
        try:
            backend = resolve(name)
        except BackendUnavailableError:
            continue
        if backend.handles(array):
            return backend
    raise TypeError(
        f"got a {type(array).__module__}.{type(array).__qualname__}, which is no array of a known "
        "library; make one with tinyml.asarray(a, backend=None)"
    )


def _fastest(library: str) -> Backend:
    for name in (*_FASTEST_FIRST.get(library, ()), *_targets()):
        try:
            backend = resolve(name)
        except BackendUnavailableError:
            continue
        if backend.library == library:
            return backend
    raise AssertionError(f"no backend of {library}, though one has handled its arrays")


def _mixed(places: list[str]) -> str:
    return (
        f"arrays live on {' and '.join(places)}; one operation needs them in one place: "
        "move them with tinyml.asarray(a, backend) or tinyml.to_numpy(a)"
    )


@cache
def _warn_of_cpu(name: str) -> None:
    """Warn, once in a process, that a selected GPU is not what runs."""
    warnings.warn(
        f"backend {name!r} is selected, but this operation got NumPy arrays and runs on the CPU; "
        "make its arrays with tinyml.asarray(a)",
        UserWarning,
        stacklevel=5,
    )
