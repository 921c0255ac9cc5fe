"""A small deep-learning library whose code follows the formulas.

Every layer runs unchanged on all array backends, and max-unpooling follows the same rules on each.
"""

from typing import TYPE_CHECKING, Any

from tinyml.arrays import asarray, to_numpy
from tinyml.checkpoint import load, register_layer, save
from tinyml.pooling import (
    Switches,
    adaptive_avg_pool,
    adaptive_avg_pool_gradient,
    adaptive_max_pool,
    adaptive_max_pool_gradient,
    avg_pool,
    avg_pool_gradient,
    max_pool,
    max_pool_gradient,
    max_unpool,
    max_unpool_gradient,
)
from tinyml_backends import (
    BackendUnavailableError,
    CheckpointError,
    MixedBackendError,
    SwitchIndexError,
    TinymlError,
    backends,
    current_backend,
    current_precision,
    register_backend,
    set_backend,
    use_backend,
    use_precision,
)

if TYPE_CHECKING:
    from tinyml.fields import receptive_field

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailableError",
    "CheckpointError",
    "MixedBackendError",
    "SwitchIndexError",
    "Switches",
    "TinymlError",
    "adaptive_avg_pool",
    "adaptive_avg_pool_gradient",
    "adaptive_max_pool",
    "adaptive_max_pool_gradient",
    "asarray",
    "avg_pool",
    "avg_pool_gradient",
    "backends",
    "current_backend",
    "current_precision",
    "load",
    "max_pool",
    "max_pool_gradient",
    "max_unpool",
    "max_unpool_gradient",
    "receptive_field",
    "register_backend",
    "register_layer",
    "save",
    "set_backend",
    "to_numpy",
    "use_backend",
    "use_precision",
]


def __getattr__(name: str) -> Any:
    if name == "receptive_field":  # it needs the layers, which take time to import
        from tinyml.fields import receptive_field

        return receptive_field
    raise AttributeError(f"module 'tinyml' has no attribute {name!r}")
