"""What-where autoencoder: unpooling with switches reconstructs digits better than without."""

import numpy as np

from tinyml.data import load_digits
from tinyml.layers import Conv2D, ConvTranspose2D, MaxPool2D, ReLU, Upsample
from tinyml.learner import Learner
from tinyml.losses import MSE
from tinyml.models import autoencoder
from tinyml.net import Sequential
from tinyml.optims import Adam


def without_switches() -> Sequential:
    """The same network, whose decoder copies each value to all cells of its window."""
    return Sequential(
        [
            Conv2D("encoder", (1, 8, 8), 8, 3, padding=1, rng=0),
            ReLU("relu"),
            MaxPool2D("pool", (8, 8, 8), 2, 2),
            Upsample("up", (8, 4, 4), 2),
            ConvTranspose2D("decoder", (8, 8, 8), 1, 3, padding=1, rng=1),
        ]
    )


def main(epochs: int = 10) -> dict[str, float]:
    """Train both and return their mean squared errors on digits held out."""
    x = load_digits().images[:, None] / np.float32(16)
    errors = {}
    networks = {
        "with switches": autoencoder((1, 8, 8), channels=(8,)),
        "without": without_switches(),
    }
    for name, model in networks.items():
        learner = Learner(model, MSE(), Adam(5e-3))
        learner.fit((x[:1400], x[:1400]), epochs=epochs)
        errors[name] = learner.evaluate((x[1400:], x[1400:]))["loss"]
    print(", ".join(f"{name}: error {error:.4f}" for name, error in errors.items()))
    return errors


if __name__ == "__main__":
    main()
