"""Training on a GPU where there is one: only the backend differs."""

import numpy as np

import tinyml
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.optims import Adam


def main(steps: int = 3) -> str:
    """Train on the GPU if CuPy and a GPU are there, and return the device of the model."""
    found = {status.name: status for status in tinyml.backends()}
    name = "cupy" if found["cupy"].available else "numpy"
    if name == "numpy":
        print(f"no GPU is used: {found['cupy'].reason}")
    with tinyml.use_backend(name):
        model = segnet((3, 64, 64), n_classes=2, depth=3, channels=8)
    learner = Learner(model, SoftmaxCrossEntropy(), Adam(1e-3))

    rng = np.random.default_rng(0)  # NumPy's arrays are moved to the model's device
    x = rng.standard_normal((4 * steps, 3, 64, 64), np.float32)
    y = (x.mean(1) > 0).astype(np.int64)
    learner.fit((x, y), batch_size=4)

    model.to("numpy")  # and back
    print(f"trained on {name}; the output is a {type(model(x[:1])).__module__} array")
    return name


if __name__ == "__main__":
    main()
