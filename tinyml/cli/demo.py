"""``tinyml demo``: train a SegNet on half of an image, and test it on the other half."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

import tinyml
from tinyml.cli.demo_picture import Panels, draw
from tinyml.cli.outputs import PICTURES, Failure, check_output
from tinyml.cli.recipes import task_of
from tinyml.data import load_nuclei
from tinyml.data.pairs import Pair, read_pair
from tinyml.layers import MaxPool2D
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.optims import Adam
from tinyml.prediction import Task, segment

CROP = 64
BATCH = 8
DEPTH = 3
CHANNELS = 16
CLASSES = ("background", "foreground")
LEARNING_RATE = 5e-3

#: Endings of what is written beside the picture.
MODEL, INPUT = ".safetensors", "-input.png"

Mask = NDArray[np.bool]


class Score(NamedTuple):
    """Agreement of a mask with the truth."""

    iou: float
    """Foreground pixels in both masks, as a share of those in either."""
    accuracy: float
    """Share of pixels that agree."""


class Halves(NamedTuple):
    """An annotated image whose left half trains and whose right half tests."""

    picture: NDArray[Any]
    """(channels, height, width), as it was read."""
    task: Task
    """With the mean and deviation of the left half's pixels."""
    image: NDArray[np.float32]
    """The picture, standardised by them."""
    mask: Mask
    """(height, width), true in the foreground."""
    cut: int
    """First column of the right half."""


def nuclei() -> Pair:
    """The packaged image (1, height, width) and its foreground (height, width)."""
    image, instances = load_nuclei()
    return Pair(image[None], instances > 0, ())


def halves(image: NDArray[Any], mask: Mask) -> Halves:
    """Divide and standardise an annotated image.

    Raises
    ------
    ValueError
        If the image is too small for a crop, its left half is constant, or one half of the mask is
        constant.
    """
    _, height, width = image.shape
    cut = width // 2
    if height < CROP or cut < CROP:
        raise ValueError(
            f"the image has {height}×{width} pixels; it must have at least {CROP}×{2 * CROP}, "
            "since one half trains on crops of that size"
        )
    for side, half in (("left", mask[:, :cut]), ("right", mask[:, cut:])):
        if half.all() or not half.any():
            kind = "foreground (not 0)" if half.all() else "background (0)"
            raise ValueError(f"the {side} half of the mask is all {kind}; it must hold both")
    left = image[:, :, :cut]
    if (left == left[:, :1, :1]).all():
        raise ValueError("the left half of the image is constant; there is nothing to learn from")
    task = task_of("segment", CLASSES, [left], image.dtype)
    return Halves(image, task, task.scaled(image), mask, cut)


@dataclass(frozen=True)
class Crops:
    """Batches of random crops of the left half, rotated by quarter turns and flipped."""

    data: Halves
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.steps):
            crops = [self._crop(rng) for _ in range(BATCH)]
            yield np.stack([x for x, _ in crops]), np.stack([y for _, y in crops])

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        row = rng.integers(self.data.mask.shape[0] - CROP + 1)
        column = rng.integers(self.data.cut - CROP + 1)
        turns, flip = int(rng.integers(4)), rng.integers(2)
        window = np.s_[row : row + CROP, column : column + CROP]
        x, y = self.data.image[:, *window], self.data.mask[window].astype(np.int64)
        x, y = np.rot90(x, turns, axes=(-2, -1)), np.rot90(y, turns, axes=(-2, -1))
        return (x[..., ::-1], y[..., ::-1]) if flip else (x, y)


def score(found: Mask, truth: Mask) -> Score:
    """Compare two masks."""
    iou = (found & truth).sum() / max(1, (found | truth).sum())
    return Score(float(iou), float((found == truth).mean()))


def threshold(image: NDArray[Any], mask: Mask, cut: int) -> Score:
    """Score, on the right half, of the grey level that is best on the left half.

    The foreground is brighter than the level, or darker, whichever is better. All levels are
    compared at once, on the histograms of foreground and background.
    """
    grey = image.sum(0, dtype=np.int64)
    left, truth = grey[:, :cut], mask[:, :cut]
    levels = np.linspace(grey.min(), grey.max(), 257)[:-1]
    values = np.arange(grey.max() + 1)
    counts = [np.bincount(left[which], minlength=len(values)) for which in (truth, ~truth)]
    best: tuple[float, int, float] = (-1.0, 0, 0.0)
    for sign, order in ((1, -1), (-1, 1)):
        # how many levels lie below a value, and from these how many pixels lie beyond each level
        beyond = np.searchsorted(levels, values, "left" if sign == 1 else "right")
        hits, false = (
            np.bincount(beyond, count, len(levels) + 1)[::order].cumsum()[:-1][::order]
            for count in counts
        )
        iou = hits / np.maximum(1, truth.sum() + false)
        first = int(iou.argmax())
        best = max(best, (float(iou[first]), sign, levels[first]), key=lambda rule: rule[0])
    _, sign, level = best
    return score(sign * grey[:, cut:] > sign * level, mask[:, cut:])


class Result(NamedTuple):
    """Result of training and testing."""

    losses: list[float]
    seconds: float
    found: Mask
    """Foreground found in the right half."""
    switch_bytes: int
    index_bytes: int
    """Bytes of all switches of the right half, and of as many int64 indices."""


def build(data: Halves, seed: int) -> Learner:
    """Return an untrained SegNet with its loss and optimizer."""
    channels = data.image.shape[0]
    model = segnet((channels, CROP, CROP), 2, depth=DEPTH, channels=CHANNELS, rng=seed)
    return Learner(model, SoftmaxCrossEntropy(), Adam(LEARNING_RATE))


def train(learner: Learner, data: Halves, steps: int, seed: int) -> float:
    """Train on the left half, and return the seconds it took; Ctrl-C ends it early."""
    start = time.perf_counter()
    with suppress(KeyboardInterrupt):
        learner.fit(Crops(data, steps, seed))
    return time.perf_counter() - start


def find(learner: Learner, data: Halves, seconds: float) -> Result:
    """Segment the right half with the trained network, as `tinyml predict` does."""
    right = data.picture[:, :, data.cut :]
    found = segment(learner.model, data.task, right) == 1
    windows, size = 0, right.shape[1:]
    for pool in learner.model.walk():
        if isinstance(pool, MaxPool2D):
            size = pool.window.output_shape(size)
            windows += CHANNELS * prod(size)
            winner_bytes = pool.window.winner_dtype.itemsize
    return Result(learner.history["loss"], seconds, found, winner_bytes * windows, 8 * windows)


def keep(output: Path, learner: Learner, data: Halves, image: Path | None) -> list[str]:
    """Write the model beside the picture; lines that say so and what to try next.

    The right half of the packaged image is written too, since it is no file yet.
    """
    model = output.with_suffix(MODEL)
    tinyml.save(learner.model, model, info=data.task.as_info())
    if image is None:
        import imagecodecs

        image = output.with_name(output.stem + INPUT)
        image.write_bytes(imagecodecs.png_encode(data.picture[0, :, data.cut :]))
    folder = output.with_name(f"{output.stem}-predictions")
    return [f"model     {model}", f"next      tinyml predict {model} {image} --output {folder}"]


def heading(learner: Learner, data: Halves) -> str:
    """Lines printed before the training."""
    parameters = sum(p.tensor.size for p in learner.model.parameters)
    height, width = data.mask.shape
    return (
        f"image     {height}×{width}; the left half trains, the right half tests\n"
        f"backend   {tinyml.current_backend().name}\n"
        f"network   SegNet, {DEPTH} levels of {CHANNELS} channels, {parameters:,} parameters"
    )


def report(result: Result, steps: int) -> str:
    """Lines printed after the training, above the scores."""
    done = len(result.losses)
    early = f", interrupted before {steps}" if done < steps else ""
    return (
        f"training  {done} steps of {BATCH} crops in {result.seconds:.1f} s{early}\n"
        f"switches  {result.switch_bytes:,} bytes for the right half; "
        f"int64 indices would take {result.index_bytes:,}"
    )


@click.command("demo")
@click.option("--backend", metavar="NAME", help="Backend to run on; `tinyml info` lists them.")
@click.option(
    "--steps",
    default=400,
    show_default=True,
    type=click.IntRange(min=1),
    help="Training steps, of eight crops each.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of the first weights and of the crops.",
)
@click.option(
    "--output",
    default="tinyml-demo.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Picture to write.",
)
@click.option("--image", type=click.Path(path_type=Path), help="Your own image, with --mask.")
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="Mask of --image: 0 in the background, not 0 in the foreground.",
)
def command(
    backend: str | None,
    steps: int,
    seed: int,
    output: Path,
    image: Path | None,
    mask: Path | None,
) -> None:
    """Train a SegNet on half of an image and test it on the other half.

    The image is a fluorescence micrograph of 125 cell nuclei that comes with tinyml. The network
    trains on random crops of its left half, rotated and flipped, and is tested on the right half,
    which it has never seen. A line gives the intersection over union (IoU) of the foreground and
    the share of correct pixels, and both for a threshold, the grey level that is best on the left
    half. The picture shows the right half, the truth, the prediction, the errors and the training
    curve. The model is written beside it; the last line printed is a command that uses it.

    With --image and --mask it uses your own pair of files: PNG, TIFF, JPEG, BMP, npy or npz, grey
    or RGB, uint8 or uint16, at least 64 pixels high and 128 wide. A mask may hold bool, any
    integers or whole floats; it cannot be a JPEG. If it has a palette, its indices count. An
    orientation that a file declares is applied.

    Ctrl-C ends the training early; what was learned is still tested and drawn.
    """
    missing = [m for m in ("matplotlib", "PIL", "tifffile", "imagecodecs") if find_spec(m) is None]
    if missing:
        raise Failure(
            f"the demo needs {', '.join(missing)}; in the clone of tinyml run: "
            "python3 -m pip install '.[demo]'"
        )
    try:
        if (image is None) != (mask is None):
            raise ValueError("--image and --mask go together; give both or neither")
        with tinyml.use_backend(backend or tinyml.current_backend()):
            check_output("output", output, (image, mask), "your image or mask", PICTURES)
            for name in (output.with_suffix(MODEL), output.with_name(output.stem + INPUT)):
                check_output("output", name, (image, mask), "your image or mask")
            picture, truth, notes = read_pair(image, mask) if image and mask else nuclei()
            data = halves(picture, truth)
            learner = build(data, seed)
            click.echo("\n".join((heading(learner, data), *(f"note      {n}" for n in notes))))
            seconds = train(learner, data, steps, seed)
            result = find(learner, data, seconds)
            ours = score(result.found, truth[:, data.cut :])
            plain = threshold(picture, truth, data.cut)
            panels = Panels(
                image.name if image else "nuclei",
                picture[:, :, data.cut :],
                truth[:, data.cut :],
                result.found,
                f"IoU {ours.iou:.3f}\n(a plain threshold: {plain.iou:.3f})",
                f"errors, {1 - ours.accuracy:.1%} of pixels\n"
                f"(a plain threshold: {1 - plain.accuracy:.1%})",
            )
            lines = [
                report(result, steps),
                f"picture   {output}",
                f"IoU {ours.iou:.3f} (threshold {plain.iou:.3f}), "
                f"pixel accuracy {ours.accuracy:.3f} (threshold {plain.accuracy:.3f})",
            ]
            try:
                draw(output, panels, result.losses)
                model, following = keep(output, learner, data, image)
                lines = [*lines[:2], model, lines[2], following]
            except OSError as error:  # a full disk; the scores are not lost with the picture
                click.echo("\n".join((lines[0], lines[2])))
                raise ValueError(f"output {output} cannot be written: {error}") from error
    except (ValueError, tinyml.BackendUnavailableError, FloatingPointError) as error:
        raise Failure(str(error)) from error
    click.echo("\n".join(lines))
