"""Array backends of tinyml: a registry of names, one contract, and the kernels.

Never imports tinyml. A backend that runs on a GPU or a compiler is imported when first asked for.
"""

from tinyml_backends.backend import DTYPES, Backend
from tinyml_backends.errors import (
    BackendUnavailableError,
    MixedBackendError,
    SwitchIndexError,
    TinymlError,
)
from tinyml_backends.geometry import Window
from tinyml_backends.registry import (
    BackendStatus,
    backends,
    register_backend,
    resolve,
)
from tinyml_backends.selection import (
    backend_for,
    current_backend,
    home_of,
    set_backend,
    use_backend,
)

__all__ = [
    "DTYPES",
    "Backend",
    "BackendStatus",
    "BackendUnavailableError",
    "MixedBackendError",
    "SwitchIndexError",
    "TinymlError",
    "Window",
    "backend_for",
    "backends",
    "current_backend",
    "home_of",
    "register_backend",
    "resolve",
    "set_backend",
    "use_backend",
]
