"""``tinyml predict``: classes of images, or of their pixels, by a trained model."""

import colorsys
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import tinyml
from tinyml.checkpoint import read
from tinyml.cli.outputs import Failure, check_output
from tinyml.data.pairs import Pixels, read_image, resized
from tinyml.layers import Layer
from tinyml.prediction import Task, classify, segment
from tinyml.progress import Progress

TABLE = "predictions.csv"


@click.command("predict")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; it is made if it does not exist.",
)
@click.option("--backend", metavar="NAME", help="Backend to run on; `tinyml info` lists them.")
@click.option("--skip-bad", is_flag=True, help="Name files that cannot be used, and go on.")
def command(
    model: Path, images: tuple[Path, ...], output: Path, backend: str | None, skip_bad: bool
) -> None:
    """Predict images with the model that `tinyml train` or `tinyml demo` has saved.

    MODEL is the checkpoint. It knows its task, its classes and how pixels are scaled. IMAGES are
    PNG, TIFF, JPEG, BMP, npy or npz files with the channels and the kind of pixels that the model
    was trained on.

    A model that segments writes for each image a PNG of the same name and size whose palette
    indices are the classes. Images may have any size; large ones are predicted in overlapping
    tiles, with the result of the whole image and bounded memory. A model that classifies writes
    predictions.csv with the most probable class of each image, and prints it; images are resized
    to the size it was trained on.

    For example: tinyml predict tinyml-demo.safetensors *.png --output found

    Ctrl-C ends it with exit code 130; what was written stays. Exits with 1 if a file was skipped.
    """
    try:
        with tinyml.use_backend(backend or tinyml.current_backend()):
            checkpoint = read(model)
            task = Task.of_info(checkpoint.info)
            missing = [image for image in images if not image.exists()]
            if missing and not skip_bad:
                raise ValueError(
                    f"image {missing[0]} cannot be read: No such file or directory; --skip-bad "
                    "leaves such files out"
                )
            targets = _targets(images, output, task)
            output.mkdir(parents=True, exist_ok=True)
            for target in set(targets):
                check_output("output", target, images, "one of the images")
            if task.kind == "classify":
                skipped = _classify(checkpoint.model, task, images, targets[0], skip_bad)
            else:
                skipped = _segment(checkpoint.model, task, images, targets, skip_bad)
    except OSError as error:
        raise Failure(f"{error.filename or model}: {error.strerror or error}") from error
    except ModuleNotFoundError as error:
        raise Failure(
            f"predict needs {error.name}; in the clone of tinyml run: "
            "python3 -m pip install '.[demo]'"
        ) from error
    except (ValueError, tinyml.BackendUnavailableError) as error:
        raise Failure(str(error)) from error
    if skipped:
        click.echo(f"skipped {len(skipped)} of {len(images)} images", err=True)
        raise SystemExit(1)


def _targets(images: tuple[Path, ...], output: Path, task: Task) -> list[Path]:
    """File that is written for each image.

    Raises
    ------
    ValueError
        If two images would be written to one file.
    """
    if task.kind == "classify":
        return [output / TABLE]
    targets = [output / f"{image.stem}.png" for image in images]
    twice = [path for path, count in Counter(targets).items() if count > 1]
    if twice:
        raise ValueError(f"two images would be written to {twice[0]}; predict them one at a time")
    return targets


def _read(file: Path, skip_bad: bool, skipped: list[Path]) -> Pixels | None:
    """Image of a file; with ``skip_bad`` None if it cannot be read, which is then noted."""
    try:
        return read_image(file)
    except ValueError as error:
        if not skip_bad:
            raise ValueError(f"{error}; --skip-bad leaves such files out") from error
        skipped.append(file)
        click.echo(f"skipped: {error}", err=True)
        return None


def _segment(
    model: Layer, task: Task, images: tuple[Path, ...], targets: list[Path], skip_bad: bool
) -> list[Path]:
    from PIL import Image

    skipped: list[Path] = []
    palette = _palette(len(task.classes))
    for file, target in zip(Progress(images, desc="images", unit="image"), targets, strict=True):
        image = _read(file, skip_bad, skipped)
        if image is None:
            continue
        found = _named(file, skip_bad, skipped, segment, model, task, image)
        if found is None:
            continue
        picture = Image.fromarray(found)
        picture.putpalette(palette)
        picture.save(target)
        counts = sum(np.bincount(row, minlength=len(task.classes)) for row in found)
        pairs = zip(task.classes, counts / found.size, strict=True)
        shares = ", ".join(f"{name} {share:.1%}" for name, share in pairs if share)
        with Progress.external_write_mode():
            click.echo(f"{target}  {shares}")
    return skipped


def _classify(
    model: Layer, task: Task, images: tuple[Path, ...], target: Path, skip_bad: bool
) -> list[Path]:
    skipped: list[Path] = []
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "class", "probability"])
        for path in Progress(images, desc="images", unit="image"):
            image = _read(path, skip_bad, skipped)
            if image is None:
                continue
            found = _named(path, skip_bad, skipped, _probabilities, model, task, image)
            if found is None:
                continue
            best = int(found.argmax())
            table.writerow([path, task.classes[best], f"{found[best]:.4f}"])
            with Progress.external_write_mode():
                click.echo(f"{path}  {task.classes[best]}  {found[best]:.1%}")
    click.echo(f"table     {target}")
    return skipped


def _probabilities(model: Layer, task: Task, image: Pixels) -> NDArray[np.float64]:
    """Probabilities of one image's classes, at the model's size."""
    task.check(image)
    fitting = image if task.size is None else resized(image, task.size)
    probabilities: NDArray[np.float64] = classify(model, task, [fitting])[0]
    return probabilities


def _named(file: Path, skip_bad: bool, skipped: list[Path], function: Any, *args: Any) -> Any:
    """What a function returns; its ValueError names the file."""
    try:
        return function(*args)
    except ValueError as error:
        if not skip_bad:
            raise ValueError(f"{file}: {error}; --skip-bad leaves such files out") from error
        skipped.append(file)
        click.echo(f"skipped: {file}: {error}", err=True)
        return None


def _palette(classes: int) -> list[int]:
    """Black, white, and then colours that differ."""
    colours = [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
    colours += [colorsys.hsv_to_rgb((0.61 * n) % 1, 0.75, 0.95) for n in range(classes - 2)]
    return [round(255 * value) for colour in colours[:classes] for value in colour]
