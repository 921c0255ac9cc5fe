"""Array backends of tinyml: a registry of names, one contract, and the kernels.

This package never imports tinyml. The backends that need CuPy or Numba are imported at their first
use.
"""

from tinyml_backends.contract import DTYPES, Backend
from tinyml_backends.conventions import Convention, ConventionName, Duplicates
from tinyml_backends.errors import (
    BackendUnavailableError,
    CheckpointError,
    MixedBackendError,
    SwitchIndexError,
    TinymlError,
)
from tinyml_backends.geometry import Window
from tinyml_backends.precision import current_precision, use_precision
from tinyml_backends.registry import (
    BackendStatus,
    backends,
    register_backend,
    resolve,
)
from tinyml_backends.selection import (
    backend_for,
    current_backend,
    owner_of,
    set_backend,
    use_backend,
)

__all__ = [
    "DTYPES",
    "Backend",
    "BackendStatus",
    "BackendUnavailableError",
    "CheckpointError",
    "Convention",
    "ConventionName",
    "Duplicates",
    "MixedBackendError",
    "SwitchIndexError",
    "TinymlError",
    "Window",
    "backend_for",
    "backends",
    "current_backend",
    "current_precision",
    "owner_of",
    "register_backend",
    "resolve",
    "set_backend",
    "use_backend",
    "use_precision",
]
