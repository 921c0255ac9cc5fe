"""Names that are reserved for backends which this version does not have yet."""

from typing import NoReturn

from tinyml_backends.errors import BackendUnavailableError


def numba() -> NoReturn:
    """Say that the compiled CPU backend is still to come."""
    raise BackendUnavailableError(
        "this version of tinyml has no compiled CPU kernels yet, installed Numba or not; "
        "use 'numpy', which runs every operation"
    )
