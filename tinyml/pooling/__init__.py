"""Pooling and unpooling on arrays: maxima, means, adaptive windows, and the switches."""

from tinyml.pooling.adaptive import (
    adaptive_avg_pool,
    adaptive_avg_pool_gradient,
    adaptive_max_pool,
    adaptive_max_pool_gradient,
)
from tinyml.pooling.average import avg_pool, avg_pool_gradient
from tinyml.pooling.max import max_pool, max_pool_gradient, max_unpool, max_unpool_gradient
from tinyml.pooling.switches import Switches

__all__ = [
    "Switches",
    "adaptive_avg_pool",
    "adaptive_avg_pool_gradient",
    "adaptive_max_pool",
    "adaptive_max_pool_gradient",
    "avg_pool",
    "avg_pool_gradient",
    "max_pool",
    "max_pool_gradient",
    "max_unpool",
    "max_unpool_gradient",
]
