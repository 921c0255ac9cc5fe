"""Finding a backend by name: built in, registered by a call, or offered by an installed package.

A backend is imported at its first use, so that neither ``import tinyml`` nor a program that uses
NumPy alone loads CuPy or Numba.
"""

import difflib
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.errors import BackendUnavailableError, argument_of_caller

Target = str | Callable[..., Backend]
Loader = Callable[[], Callable[..., Backend]]

ENTRY_POINTS = "tinyml.backends"


def _attribute(target: str) -> Callable[..., Backend]:
    """The object that ``"module:Class"`` names; imports the module."""
    module, _, attribute = target.partition(":")
    return cast("Callable[..., Backend]", getattr(importlib.import_module(module), attribute))


#: What every backend must define itself.
REQUIRED = ("name", "library", "xp", "handles", "device", "asarray", "to_numpy")
_BUILT_IN: dict[str, Loader] = {
    "numpy": partial(_attribute, "tinyml_backends.numpy_backend:NumpyBackend"),
    "numba": partial(_attribute, "tinyml_backends.numba_backend:load"),
    "cupy": partial(_attribute, "tinyml_backends.cupy_backend:CupyBackend"),
}
#: For "auto": the backends of a library, the fastest first; all others follow, ordered by `_known`.
_FASTEST_FIRST = {"numpy": ("numba", "numpy"), "cupy": ("cupy",)}

_registered: dict[str, Loader] = {}
_made: dict[tuple[str, int | None], Backend] = {}
_making = threading.RLock()


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One entry of `backends()`: a known name, and whether its backend can run here."""

    name: str
    available: bool
    reason: str
    """Empty for an available backend; otherwise why it cannot run, and what to do if known."""


def register_backend(name: str, target: Target) -> None:
    """Register a backend under a name; registering a name again replaces it.

    If the earlier backend of this name is selected, it stays so until the name is selected again.

    Parameters
    ----------
    name : str
        A name of letters, digits, "-" and "_"; not "auto" or the name of a built-in backend.
    target : str or callable
        ``"module:Class"``, imported when the backend is first used, or a callable without arguments
        that returns a `Backend`. If it has ``has_devices = True``, it is also called with
        ``device=1`` for ``"name:1"``. An installed package can offer its backend without this call,
        through an entry point of the group ``tinyml.backends``.

    Raises
    ------
    ValueError
        If the name is built in or has other characters, or the target is a string without one
        colon.
    TypeError
        If the name is not a string, or the target is neither a string nor callable.

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
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; it must be a str")
    if not callable(target) and not isinstance(target, str):
        raise TypeError(f"target is {target!r}; it must be 'module:Class' or a callable")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name is {name!r}; it must be letters, digits, '-' and '_'")
    if name == "auto" or name in _BUILT_IN:
        raise ValueError(f"name is {name!r}, which is built in; choose another")
    if not callable(target) and target.count(":") != 1:
        raise ValueError(f"target is {target!r}; it must be 'module:Class' or a callable")
    _registered[name] = partial(_attribute, target) if isinstance(target, str) else lambda: target
    for key in [key for key in _made if key[0] == name]:
        del _made[key]


def backends() -> list[BackendStatus]:
    """Return every known backend, whether it can run here, and the reason if it cannot.

    Each backend is imported to find out.

    Examples
    --------
    >>> import tinyml
    >>> [status.name for status in tinyml.backends() if status.available][0]
    'numpy'
    """
    found = []
    for name in _known():
        reason = ""
        try:
            resolve(name)
        except BackendUnavailableError as error:
            reason = str(error).removeprefix(f"backend {name!r} cannot run: ")
        found.append(BackendStatus(name, not reason, reason))
    return found


def resolve(which: str | Backend) -> Backend:
    """Return the backend of a name; it is made at the first call for that name.

    Parameters
    ----------
    which : str or Backend
        A name, as for `use_backend`, or a backend, which is returned as it is. "auto" gives the
        backend on which new arrays are made: cupy if it can run here, else the fastest for NumPy.

    Raises
    ------
    TypeError
        If ``which`` is neither a string nor a backend.
    ValueError
        If the name is unknown, or has an invalid device number, or one though it has no devices.
    BackendUnavailableError
        If the backend cannot run here.
    """
    if isinstance(which, Backend):
        return which
    if which == "auto":
        return _for_new_arrays()
    if not isinstance(which, str):
        raise TypeError(f"a backend is named by a str or is a Backend; got {type(which).__name__}")
    name, _, device = which.partition(":")
    number = _device_number(which, device)
    made = _made.get((name, number))
    if made is not None:
        return made
    load = _BUILT_IN.get(name) or _registered.get(name) or _entry_points().get(name)
    if load is None:
        raise ValueError(_unknown(which, [*_known(), "auto"]))
    with _making:
        if (name, number) not in _made:
            _made[name, number] = _make(which, load, number)
        return _made[name, number]


def _known() -> dict[str, Loader]:
    """Every known name. A built-in one takes precedence, then a registered one."""
    return {**_BUILT_IN, **_entry_points(), **_registered, **_BUILT_IN}


@cache
def _entry_points() -> dict[str, Loader]:
    from importlib.metadata import entry_points  # slow to import, and not needed for NumPy

    return {point.name: point.load for point in entry_points(group=ENTRY_POINTS)}


def _unknown(which: str, known: list[str]) -> str:
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(which.lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[close[0]]!r}?" if close else ""
    return f"unknown backend {which!r}; known are {', '.join(map(repr, known))}{hint}"


def _device_number(which: str, device: str) -> int | None:
    if ":" not in which:
        return None
    if not device.isdecimal():
        raise ValueError(f"backend {which!r} must end in a device number, for example 'cupy:1'")
    return int(device)


def _make(which: str, load: Loader, device: int | None) -> Backend:
    try:
        factory = load()
        has_devices = getattr(factory, "has_devices", False)
        if device is None or has_devices:
            backend = factory() if device is None else factory(device=device)
    except BackendUnavailableError as error:
        raise _unavailable(which, str(error)) from error
    except Exception as error:  # modules, drivers and compilers raise any type
        raise _unavailable(which, f"{type(error).__name__}: {error}") from error
    if device is not None and not has_devices:
        name = which.partition(":")[0]
        raise ValueError(f"backend {which!r}: {name!r} has no devices to choose from")
    if not isinstance(backend, Backend):
        made = type(backend).__name__
        raise _unavailable(which, f"its target made a {made}, which is no Backend")
    missing = [
        name
        for name in REQUIRED
        if not hasattr(backend, name)
        or getattr(type(backend), name, None) is getattr(Backend, name, backend)
    ]
    if missing:
        made = type(backend).__name__
        raise _unavailable(which, f"{made} does not define {', '.join(missing)}")
    return backend


def _unavailable(which: str, reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(f"backend {which!r} cannot run: {reason}")


@cache
def _for_new_arrays() -> Backend:
    """Backend of "auto" for new arrays: CuPy where a GPU works, else the fastest on the CPU."""
    try:
        return resolve("cupy")
    except BackendUnavailableError:
        return _fastest("numpy")


def _fastest(library: str) -> Backend:
    """Fastest available backend of an array library."""
    names = (*_FASTEST_FIRST.get(library, ()), *_known())
    return next(backend for backend in _available(names) if backend.library == library)


def _default_for(array: Array) -> Backend:
    """Default backend of an array's library, whatever is selected.

    It is numpy for NumPy arrays and cupy for CuPy arrays. For any other array it is the first
    installed or registered backend that handles it.

    Raises
    ------
    TypeError
        If it is not an array of a known library.
    """
    numpy = resolve("numpy")
    if numpy.handles(array):
        return numpy
    if type(array).__module__.partition(".")[0] == "cupy":  # known without importing CuPy
        return resolve("cupy")
    for backend in _available((*_entry_points(), *_registered)):
        if backend.handles(array):
            return backend
    name = argument_of_caller(array) or "an argument"
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it: a.filled(0)")
    kind = f"{type(array).__module__}.{type(array).__qualname__}".removeprefix("builtins.")
    raise TypeError(
        f"{name} is a {kind}, which is no array of a known library; make one with "
        "tinyml.asarray(a, backend=None)"
    )


def _available(names: tuple[str, ...]) -> Iterator[Backend]:
    for name in names:
        with suppress(BackendUnavailableError):
            yield resolve(name)
