"""Networks without memory for their weights, to count them."""

import numpy as np


class NoMemory(np.random.Generator):
    """Weights of zero, all in the same cell."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.broadcast_to(np.zeros((), dtype), size).view(_Fixed)


class _Fixed(np.ndarray):
    def __mul__(self, other):
        return self


def parameter_shapes(build, *arguments, monkeypatch):
    """Shapes of the parameters of ``build(*arguments)``."""
    monkeypatch.setattr("tinyml.core.parameter.zeros_like", lambda tensor: tensor)
    return [p.tensor.shape for p in build(*arguments, rng=NoMemory()).parameters]
