"""A layer of one's own, checked by its gradients, used in a network, saved and loaded."""

from typing import Any

import numpy as np

import tinyml
from tinyml.core import Parameter
from tinyml.layers import Layer, Linear
from tinyml.net import Sequential
from tinyml.testing import gradient_check


@tinyml.register_layer
class Swish(Layer):
    """``x · sigmoid(slope · x)`` with a learned slope (Ramachandran, Zoph and Le, 2017)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.slope = Parameter(tinyml.asarray(np.ones(1, np.float32)))

    def forward(self, x: Any) -> Any:
        """Swish of an array of any shape."""
        gate = 1 / (1 + np.exp(-self.slope.tensor * x))
        self.saved = x, gate
        return x * gate

    def backward(self, in_gradient: Any) -> Any:
        """Gradient with respect to the input; adds to that of the slope."""
        x, gate = self.saved_by_forward()
        slope_of_gate = gate * (1 - gate)
        self.slope.gradient += (in_gradient * x * x * slope_of_gate).sum()
        return in_gradient * (gate + self.slope.tensor * x * slope_of_gate)


def main(path: str = "swish.safetensors") -> bool:
    """Check the gradients, and whether a loaded network gives the same."""
    gradient_check(Swish("swish"), (2, 5))
    net = Sequential([Linear("first", 4, 8, rng=0), Swish("swish"), Linear("last", 8, 2, rng=1)])
    tinyml.save(net, path)
    x = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    same = bool((tinyml.load(path)(x) == net(x)).all())
    print("gradients are right; the loaded network is", "the same" if same else "another")
    return same


if __name__ == "__main__":
    main()
