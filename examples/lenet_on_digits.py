"""LeNet learns handwritten digits; the model is kept, loaded again and applied."""

import numpy as np

import tinyml
from tinyml.data import holdout, load_digits
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import lenet
from tinyml.optims import AdamW
from tinyml.schedules import OneCycle


def main(epochs: int = 10, path: str = "digits.safetensors") -> float:
    """Train and return the accuracy on what was held out."""
    images, labels = load_digits()
    x, y = images[:, None] / np.float32(16), labels.astype(np.int64)
    kept, held = holdout(len(x), 0.2, seed=0)

    model = lenet((1, 8, 8), n_classes=10, channels=(16, 32), size=3, dropout=0.3)
    steps = epochs * -(-len(kept) // 32)
    learner = Learner(model, SoftmaxCrossEntropy(label_smoothing=0.1), AdamW(OneCycle(4e-3, steps)))
    learner.fit((x[kept], y[kept]), epochs=epochs)

    tinyml.save(model, path)
    learner.model = tinyml.load(path)
    accuracy: float = learner.evaluate((x[held], y[held]))["accuracy"]
    print(f"accuracy {accuracy:.3f} on {len(held)} digits held out")
    return accuracy


if __name__ == "__main__":
    main()
