"""Kernels of optimizers' steps, in place, in one pass over flat arrays of float32 or float64.

All numbers have the dtype of the arrays.
"""

from functools import partial
from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, put

#: A multiplication and an addition may become one instruction, which rounds once.
fused = partial(compiled, fastmath={"contract"})


@fused
def sgd(tensor: Any, gradient: Any, rate: Any, start: int, stop: int) -> None:
    """Without momentum."""
    for i in range(start, stop):
        put(tensor, i, at(tensor, i) - rate * at(gradient, i))


@fused
def momentum(
    tensor: Any, gradient: Any, velocity: Any, rate: Any, decay: Any, start: int, stop: int
) -> None:
    """With momentum, which is ``decay``."""
    for i in range(start, stop):
        step = decay * at(velocity, i) + at(gradient, i)
        put(velocity, i, step)
        put(tensor, i, at(tensor, i) - rate * step)


@fused
def adam(
    tensor: Any,
    gradient: Any,
    first: Any,
    second: Any,
    numbers: Any,
    start: int,
    stop: int,
) -> None:
    """``numbers`` are both decays, each with one minus it, the rate, the correction and epsilon."""
    first_decay, first_share, second_decay, second_share, rate, correction, epsilon = numbers
    for i in range(start, stop):
        slope = at(gradient, i)
        mean = first_decay * at(first, i) + first_share * slope
        square = second_decay * at(second, i) + second_share * slope * slope
        put(first, i, mean)
        put(second, i, square)
        step = rate * mean / (np.sqrt(square / correction) + epsilon)
        put(tensor, i, at(tensor, i) - step)
