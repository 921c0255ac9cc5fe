"""A small deep-learning library whose code follows the formulas.

Every layer runs unchanged on all array backends, and max-unpooling follows the same rules on each.
"""

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
    register_backend,
    set_backend,
    use_backend,
)

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
    "load",
    "max_pool",
    "max_pool_gradient",
    "max_unpool",
    "max_unpool_gradient",
    "register_backend",
    "register_layer",
    "save",
    "set_backend",
    "to_numpy",
    "use_backend",
]
