"""SegNet and U-Net find nuclei in the half of a micrograph that they have not seen."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.data import load_nuclei
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.metrics import IoU
from tinyml.models import segnet, unet
from tinyml.optims import Adam

SIDE = 64


class Crops:
    """Batches of random crops of an image and its mask, flipped at random."""

    def __init__(self, image: NDArray[Any], mask: NDArray[Any], batches: int) -> None:
        self.image, self.mask, self.batches = image, mask, batches

    def epoch(self, rng: np.random.Generator) -> Iterator[Any]:
        """Batches of eight crops."""
        for _ in range(self.batches):
            pairs = []
            for _ in range(8):
                row, column = (rng.integers(n - SIDE + 1) for n in self.mask.shape)
                window = np.s_[row : row + SIDE, column : column + SIDE]
                flip = np.s_[..., :: rng.choice([-1, 1])]
                pairs.append((self.image[:, *window][flip], self.mask[window][flip]))
            yield tuple(map(np.stack, zip(*pairs, strict=True)))


def main(steps: int = 150) -> dict[str, float]:
    """Train both and return their IoU."""
    image, instances = load_nuclei()
    x = ((image - image[:, :256].mean()) / image[:, :256].std()).astype(np.float32)[None]
    mask = (instances > 0).astype(np.int64)
    right = x[None, :, :, 256:], mask[None, :, 256:]
    scores = {}
    for build in (segnet, unet):
        model = build((1, SIDE, SIDE), n_classes=2, depth=3, channels=8)
        learner = Learner(model, SoftmaxCrossEntropy(), Adam(5e-3))
        learner.fit(Crops(x[:, :, :256], mask[:, :256], steps))
        scores[build.__name__] = learner.evaluate(right, metrics=[IoU([1])])["iou"]
    print(", ".join(f"{name}: IoU {score:.3f}" for name, score in scores.items()))
    return scores


if __name__ == "__main__":
    main()
