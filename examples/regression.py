"""An MLP learns a function of two variables from noisy samples."""

import numpy as np
from numpy.typing import NDArray

from tinyml.layers import Linear, Tanh
from tinyml.learner import Learner
from tinyml.losses import Huber
from tinyml.net import Sequential
from tinyml.optims import Adam
from tinyml.schedules import Cosine


def target(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``sin(3 x₀) · x₁``."""
    y: NDArray[np.float32] = np.sin(3 * x[:, :1]) * x[:, 1:]
    return y


def main(epochs: int = 30) -> float:
    """Train and return the root mean square error without noise."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2000, 2)).astype(np.float32)
    y = (target(x) + 0.1 * rng.standard_normal((2000, 1))).astype(np.float32)
    model = Sequential(
        [
            Linear("first", 2, 32, rng=0),
            Tanh("tanh1"),
            Linear("second", 32, 32, rng=1),
            Tanh("tanh2"),
            Linear("last", 32, 1, rng=2),
        ]
    )
    learner = Learner(model, Huber(0.5), Adam(Cosine(1e-2, steps=epochs * 63)))
    learner.fit((x, y), epochs=epochs)
    new = rng.uniform(-1, 1, (1000, 2)).astype(np.float32)
    error = float(np.sqrt(((learner.predict(new) - target(new)) ** 2).mean()))
    print(f"root mean square error {error:.3f}; the noise has 0.1")
    return error


if __name__ == "__main__":
    main()
