"""Compiled CPU kernels through Numba, for NumPy arrays.

Importing this package does not import Numba: `load` does, at the first use of the backend.
"""

from tinyml_backends.contract import Backend
from tinyml_backends.errors import BackendUnavailableError

OLDEST = (0, 61)


def load() -> Backend:
    """Return a new backend.

    Raises
    ------
    BackendUnavailableError
        If Numba or xxhash is missing, or Numba too old or cannot be imported; the message says what
        to install.
    """
    wanted = f"numba>={OLDEST[0]}.{OLDEST[1]}"
    remedy = f"install it: pip install '{wanted}'"
    try:
        import numba
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise BackendUnavailableError(f"Numba is not installed; {remedy}") from None
    except ImportError as error:  # Numba refuses versions of NumPy that it does not know
        raise BackendUnavailableError(
            f"Numba does not load here ({error}); {remedy}, or a NumPy that it supports"
        ) from error
    if numba.version_info[:2] < OLDEST:
        raise BackendUnavailableError(f"Numba {numba.__version__} is too old; {remedy}")
    if numba.config.DISABLE_JIT:
        raise BackendUnavailableError(
            "NUMBA_DISABLE_JIT is set, so that Numba compiles nothing; unset it, or use 'numpy'"
        )
    try:
        from tinyml_backends.numba_backend.backend import NumbaBackend
    except ModuleNotFoundError as error:
        if error.name != "xxhash":
            raise
        message = "xxhash is not installed; install it: pip install xxhash"
        raise BackendUnavailableError(message) from None

    return NumbaBackend()
