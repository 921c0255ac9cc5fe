"""What ``tinyml train`` trains: data, network, loss and optimizer of each task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinyml import models
from tinyml.data import load_digits, load_nuclei
from tinyml.data.folders import Annotated, read_classes, read_masks
from tinyml.data.splits import holdout
from tinyml.layers import Layer
from tinyml.learner import Learner, Loss
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.metrics import IoU
from tinyml.optims import Adam, AdamW, Optimizer
from tinyml.prediction import Pixels, Task, segment
from tinyml.schedules import OneCycle

Dim = tuple[int, int, int]

#: Batches of crops in an epoch of segmentation, and crops in a batch.
CROP_BATCHES, CROPS = 50, 8
#: Longest side of the parts of images that are evaluated after each epoch.
PART = 512


class Recipe(Protocol):
    """Data and training of a task."""

    task: Task
    epochs: int
    batch_size: int
    rate: float
    monitor: str
    train: Any
    validation: Any
    metrics: Sequence[IoU]

    def model(self, name: str, seed: int) -> Layer:
        """Untrained network of this name."""

    def loss(self) -> Loss:
        """What is minimised."""

    def optimizer(self, rate: float, epochs: int, batch_size: int) -> Optimizer:
        """What minimises it."""

    def report(self, learner: Learner) -> str:
        """Result of the trained model on what was held out."""


# -- images with one class each ------------------------------------------------------------------


def _lenet(dim: Dim, classes: int, seed: int) -> Layer:
    size = 3 if min(dim[1:]) < 16 else 5
    return models.lenet(dim, classes, channels=(16, 32), size=size, dropout=0.3, rng=seed)


def _named(name: str, **options: Any) -> Callable[[Dim, int, int], Layer]:
    def build(dim: Dim, classes: int, seed: int) -> Layer:
        made: Layer = getattr(models, name)(dim, classes, rng=seed, **options)
        return made

    return build


CLASSIFIERS: dict[str, Callable[[Dim, int, int], Layer]] = {
    "lenet": _lenet,
    "mlp": _named("mlp", dropout=0.3),
    **{f"vgg{n}": _named(f"vgg{n}", batch_norm=True) for n in (11, 13, 16, 19)},
    **{f"resnet{n}": _named(f"resnet{n}") for n in (18, 34, 50)},
}


class Classification:
    """Images of one size, a class for each; some are held out.

    Parameters
    ----------
    images : array, (samples, channels, height, width)
    labels : array of int, (samples,)
    classes : sequence of str
    held, kept : arrays of int
        Numbers of the samples that are held out, and of those that train.
    """

    epochs = 40
    batch_size = 32
    rate = 4e-3
    monitor = "accuracy"
    metrics: Sequence[IoU] = ()

    def __init__(
        self,
        images: Pixels,
        labels: NDArray[Any],
        classes: Sequence[str],
        held: NDArray[Any],
        kept: NDArray[Any],
    ) -> None:
        size = images.shape[2], images.shape[3]
        self.task = task_of("classify", classes, [images[i] for i in kept], images.dtype, size)
        x = np.stack([self.task.scaled(image) for image in images])
        y = labels.astype(np.int64)
        self.train, self.validation = (x[kept], y[kept]), (x[held], y[held])

    def model(self, name: str, seed: int) -> Layer:
        """Untrained network of this name."""
        dim = self.train[0].shape[1:]
        return CLASSIFIERS[name](dim, len(self.task.classes), seed)

    def loss(self) -> Loss:
        """What is minimised."""
        return SoftmaxCrossEntropy(label_smoothing=0.1)

    def optimizer(self, rate: float, epochs: int, batch_size: int) -> Optimizer:
        """AdamW, whose rate rises to ``rate`` and falls again over the whole training."""
        steps = epochs * -(-len(self.train[0]) // batch_size)
        return AdamW(OneCycle(rate, max(2, steps)))

    def report(self, learner: Learner) -> str:
        """Accuracy on what was held out."""
        accuracy = learner.evaluate(self.validation)["accuracy"]
        return f"accuracy {accuracy:.4f} on {len(self.validation[0])} images held out"


def digits(seed: int, held_out: float) -> Classification:
    """The packaged digits, a random share of them held out."""
    images, labels = load_digits()
    kept, held = holdout(len(images), held_out, seed=seed)
    return Classification(images[:, None], labels, [str(n) for n in range(10)], held, kept)


def class_folder(
    folder: Path, size: tuple[int, int] | None, seed: int, held_out: float, skip_bad: bool
) -> tuple[Classification, tuple[str, ...]]:
    """A folder with a folder for each class, and what was wrong with files that are left out."""
    data = read_classes(folder, size=size, skip_bad=skip_bad)
    kept, held = holdout(len(data.images), held_out, labels=data.labels, seed=seed)
    return Classification(data.images, data.labels, data.classes, held, kept), data.skipped


# -- images with a class for each pixel ----------------------------------------------------------

SEGMENTERS: dict[str, Callable[[Dim, int, int], Layer]] = {
    "segnet": _named("segnet", depth=3, channels=16),
    "unet": _named("unet", depth=3, channels=16),
    "enet": _named("enet"),
    "segnet_vgg16": _named("segnet_vgg16"),
}


@dataclass(frozen=True)
class Crops:
    """Batches of random crops of images, rotated by quarter turns and flipped."""

    pairs: Sequence[Annotated]
    task: Task
    side: int
    batches: int

    def __len__(self) -> int:
        return self.batches

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Batches of an epoch; large images give more crops than small ones."""
        areas = np.array([pair.mask.size for pair in self.pairs], np.float64)
        for _ in range(self.batches):
            chosen = rng.choice(len(areas), CROPS, p=areas / areas.sum())
            crops = [self._crop(self.pairs[number], rng) for number in chosen]
            yield np.stack([x for x, _ in crops]), np.stack([y for _, y in crops])

    def _crop(
        self, pair: Annotated, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        row, column = (int(rng.integers(n - self.side + 1)) for n in pair.mask.shape)
        turns, flip = int(rng.integers(4)), rng.integers(2)
        window = np.s_[row : row + self.side, column : column + self.side]
        x, y = self.task.scaled(pair.image[:, *window]), pair.mask[window]
        x, y = np.rot90(x, turns, axes=(-2, -1)), np.rot90(y, turns, axes=(-2, -1))
        return (x[..., ::-1], y[..., ::-1]) if flip else (x, y)


@dataclass(frozen=True)
class Parts:
    """Batches of one part of an image each, which together are the images.

    The sides of a part are at most `PART`, and multiples of ``grid`` where the image is larger than
    that.
    """

    pairs: Sequence[Annotated]
    task: Task
    grid: int

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for pair in self.pairs:
            height, width = (n // self.grid * self.grid for n in pair.mask.shape)
            for row in range(0, height, PART):
                for column in range(0, width, PART):
                    window = np.s_[
                        row : min(row + PART, height), column : min(column + PART, width)
                    ]
                    yield self.task.scaled(pair.image[:, *window])[None], pair.mask[window][None]


class Segmentation:
    """Images of any sizes, a class for each pixel; some are held out.

    Parameters
    ----------
    kept, held : sequence of Annotated
        What trains, and what is held out.
    classes : sequence of str
        The first is the background.
    side : int
        Height and width of the crops that train.

    Raises
    ------
    ValueError
        If an image is smaller than a crop.
    """

    epochs = 8
    batch_size = CROPS
    rate = 5e-3
    monitor = "iou"

    def __init__(
        self,
        kept: Sequence[Annotated],
        held: Sequence[Annotated],
        classes: Sequence[str],
        side: int,
    ) -> None:
        images = [pair.image for pair in kept]
        if side % 8:
            raise ValueError(f"--crop is {side}; it must be a multiple of 8")
        for pair in (*kept, *held):
            if min(pair.mask.shape) < side:
                height, width = pair.mask.shape
                raise ValueError(
                    f"an image has {height}×{width} pixels, and --crop is {side}; crops must fit "
                    "into every image"
                )
        self.held, self.side = held, side
        self.task = task_of("segment", classes, images, images[0].dtype)
        self.train = Crops(kept, self.task, side, CROP_BATCHES)
        self.validation = Parts(held, self.task, grid=8)
        self.metrics: Sequence[IoU] = (self._metric(),)

    def _metric(self) -> IoU:
        return IoU(classes=list(range(1, len(self.task.classes))))

    def model(self, name: str, seed: int) -> Layer:
        """Untrained network of this name."""
        dim = self.task.channels, self.side, self.side
        return SEGMENTERS[name](dim, len(self.task.classes), seed)

    def loss(self) -> Loss:
        """What is minimised."""
        return SoftmaxCrossEntropy()

    def optimizer(self, rate: float, epochs: int, batch_size: int) -> Optimizer:
        """Adam."""
        return Adam(rate)

    def report(self, learner: Learner) -> str:
        """IoU of the whole images that were held out, as `tinyml predict` segments them."""
        metric = self._metric()
        for pair in self.held:
            found = segment(learner.model, self.task, pair.image)
            scores = np.arange(len(self.task.classes))[:, None, None] == found
            metric.update(scores[None].astype(np.float32), pair.mask[None])
        return f"IoU {metric.value():.3f} on {len(self.held)} images held out"


def nuclei(side: int) -> Segmentation:
    """The packaged image: its left half trains, the right half is held out."""
    image, instances = load_nuclei()
    mask = (instances > 0).astype(np.int64)
    half = image.shape[1] // 2
    kept, held = (
        Annotated(image[None, :, part], mask[:, part]) for part in (np.s_[:half], np.s_[half:])
    )
    return Segmentation([kept], [held], ["background", "nucleus"], side)


def mask_folder(
    folder: Path,
    classes: Sequence[str] | None,
    side: int,
    seed: int,
    held_out: float,
    skip_bad: bool,
) -> tuple[Segmentation, tuple[str, ...]]:
    """A folder of images and masks, and what was wrong with files that are left out."""
    data = read_masks(folder, classes=classes, skip_bad=skip_bad)
    kept, held = (
        [data.pairs[number] for number in numbers]
        for numbers in holdout(len(data.pairs), held_out, seed=seed)
    )
    return Segmentation(kept, held, data.classes, side), data.skipped


def task_of(
    kind: str,
    classes: Sequence[str],
    images: Sequence[Pixels],
    dtype: "np.dtype[Any]",
    size: tuple[int, int] | None = None,
) -> Task:
    """Task whose scaling gives the images mean 0 and deviation 1 in each channel."""
    count = sum(image[0].size for image in images)
    mean = sum(image.sum((1, 2), dtype=np.float64) for image in images) / count
    squares = sum(((image - mean[:, None, None]) ** 2).sum((1, 2)) for image in images)
    deviation = np.sqrt(squares / count)
    if not deviation.any():
        raise ValueError("all training images are constant; there is nothing to learn from")
    deviation = np.where(deviation > 0, deviation, 1)
    return Task(kind, tuple(classes), tuple(mean), tuple(deviation), dtype.name, size)
