"""``tinyml train``: train a network on packaged data or a folder, and keep the best."""

import signal
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import click

import tinyml
from tinyml.callbacks import Callback, Function
from tinyml.checkpoint import load, read
from tinyml.checkpoint.callbacks import KeepBest, KeepLast
from tinyml.checkpoint.training import resume as resume_training
from tinyml.cli import recipes
from tinyml.cli.outputs import PICTURES, Failure, check_output, height_and_width
from tinyml.cli.recipes import Recipe
from tinyml.history import best_epoch, plot_history
from tinyml.learner import Learner
from tinyml.progress import Progress
from tinyml.training import Position

FILE = click.Path(dir_okay=False, path_type=Path)

_SHARED = [
    click.option(
        "--output",
        default="model.safetensors",
        show_default=True,
        type=FILE,
        help="Checkpoint of the best epoch. Beside it, NAME.last.safetensors has what "
        "--resume needs.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's."),
    click.option(
        "--learning-rate",
        "rate",
        type=click.FloatRange(0, min_open=True),
        help="Default: the recipe's.",
    ),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Seed of what is held out, of the first weights and of the order.",
    ),
    click.option(
        "--held-out",
        default=0.2,
        show_default=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the data that is held out and does not train.",
    ),
    click.option("--resume", is_flag=True, help="Go on with a training that was interrupted."),
    click.option("--plot", type=FILE, help="Draw the history: png, pdf, svg or jpg."),
    click.option("--skip-bad", is_flag=True, help="Name files that cannot be read, and go on."),
    click.option("--backend", metavar="NAME", help="Backend to run on; `tinyml info` lists them."),
]


def _shared(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SHARED):
        function = option(function)
    return function


@click.group("train")
def command() -> None:
    """Train a network and keep the best; what was trained can be resumed.

    `tinyml train classify` learns a class for each image, `tinyml train segment` one for each of
    its pixels. `tinyml predict` then applies the model.
    """


@command.command("classify")
@click.option(
    "--data",
    required=True,
    metavar="digits|DIR",
    help="The packaged digits, or a folder with a folder of images for each class.",
)
@click.option(
    "--model",
    "name",
    default="lenet",
    show_default=True,
    type=click.Choice(list(recipes.CLASSIFIERS)),
)
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1))
@click.option(
    "--size",
    metavar="HxW",
    help="Resize the images of a folder, for example 64x64; otherwise they must have one size.",
)
@_shared
def classify(data: str, name: str, batch_size: int, size: str | None, **options: Any) -> None:
    """Train a network that names the class of an image.

    --data digits are 1797 handwritten digits of 8×8 pixels, which come with tinyml. A folder holds
    a folder for each class with its images: PNG, TIFF, JPEG, BMP, npy or npz.

    A random share (--held-out) does not train and is evaluated after each epoch; the weights of the
    epoch with the best accuracy are kept in --output. The recipe: AdamW, whose learning rate rises
    to 0.004 and falls again over 40 epochs; label smoothing 0.1.

    For example: tinyml train classify --data digits --model lenet

    Ctrl-C ends the training; the same command with --resume goes on, to the same bits.
    """
    _run(data, name, options | {"batch_size": batch_size, "size": size}, "classify")


@command.command("segment")
@click.option(
    "--data",
    required=True,
    metavar="nuclei|DIR",
    help="The packaged micrograph, or a folder with the folders images and masks.",
)
@click.option(
    "--model",
    "name",
    default="segnet",
    show_default=True,
    type=click.Choice(list(recipes.SEGMENTERS)),
)
@click.option(
    "--crop",
    default=64,
    show_default=True,
    type=click.IntRange(8),
    help="Height and width of the crops that train; a multiple of 8.",
)
@click.option(
    "--classes",
    metavar="NAMES",
    help="Names of the values 0, 1, … of a folder's masks, for example sky,road,car.",
)
@_shared
def segment(data: str, name: str, crop: int, classes: str | None, **options: Any) -> None:
    """Train a network that names the class of each pixel.

    --data nuclei is a fluorescence micrograph of cell nuclei, which comes with tinyml: its left
    half trains, its right half is held out. A folder holds the folders images and masks with files
    of the same names; a mask holds 0 for the background and 1, 2, … for other classes.

    Random crops train, rotated by quarter turns and flipped, eight in a step and 50 steps in an
    epoch. The images that are held out (--held-out) are evaluated after each epoch; the weights of
    the epoch with the best intersection over union (IoU, mean of the classes but the first) are
    kept in --output. The recipe: Adam with a learning rate of 0.005, 8 epochs.

    For example: tinyml train segment --data nuclei --model segnet

    Ctrl-C ends the training; the same command with --resume goes on, to the same bits.
    """
    _run(
        data,
        name,
        options | {"crop": crop, "classes": classes, "batch_size": recipes.CROPS},
        "segment",
    )


def _run(data: str, name: str, options: dict[str, Any], kind: str) -> None:
    output, plot = options.pop("output"), options.pop("plot")
    backend, again = options.pop("backend"), options.pop("resume")
    rate = options["rate"]
    try:
        if not output.name:
            raise ValueError("--output is empty; it must be a file")
        if rate is not None and not isfinite(rate):
            raise ValueError(f"--learning-rate is {rate}; it must be finite")
        last = output.with_name(f"{output.stem}.last.safetensors")
        with tinyml.use_backend(backend or tinyml.current_backend()):
            for file in (output, last):
                check_output("output", file, (), "")
            if plot:
                check_output("plot", plot, (), "", PICTURES)
                if plot.resolve() in (output.resolve(), last.resolve()):
                    raise ValueError(f"--plot and --output are both {plot}; name another file")
            recipe = _recipe(kind, data, options)
            epochs = options["epochs"] = options["epochs"] or recipe.epochs
            options["rate"] = options["rate"] or recipe.rate
            optimizer = recipe.optimizer(options["rate"], epochs, options["batch_size"])
            learner = Learner(recipe.model(name, options["seed"]), recipe.loss(), optimizer)
            asked = {"kind": kind, "data": data, "model": name, **options}
            start = _resume(learner, last, asked) if again else None
            _train(learner, recipe, asked, output, last, start)
            best = best_epoch(learner.history, recipe.monitor)
            learner.model = load(output)
            click.echo(f"best      epoch {best}: {recipe.report(learner)}")
            click.echo(f"model     {output}")
            if plot:
                plot_history(learner.history, plot)
                click.echo(f"plot      {plot}")
            click.echo(f"next      tinyml predict {output} IMAGES --output predictions")
    except OSError as error:
        raise Failure(f"{error.filename or output}: {error.strerror or error}") from error
    except (
        ValueError,
        TypeError,
        ImportError,
        tinyml.BackendUnavailableError,
        FloatingPointError,
    ) as error:
        raise Failure(str(error)) from error


def _recipe(kind: str, data: str, options: dict[str, Any]) -> Recipe:
    """Data and training; notes about files are printed."""
    folder_only = "size" if kind == "classify" else "classes"
    if data in ("digits", "nuclei") and options[folder_only] is not None:
        raise ValueError(f"--{folder_only} is for a folder of images; leave it out with {data}")
    if kind == "classify" and data == "digits":
        return recipes.digits(options["seed"], options["held_out"])
    if kind == "segment" and data == "nuclei":
        return recipes.nuclei(options["crop"])
    folder = Path(data)
    if not folder.is_dir():
        packaged = "digits" if kind == "classify" else "nuclei"
        raise ValueError(f"--data is {data}; it must be {packaged!r} or a folder")
    shared = options["seed"], options["held_out"], options["skip_bad"]
    recipe: Recipe
    if kind == "classify":
        size = None if options["size"] is None else height_and_width(options["size"])
        recipe, skipped = recipes.class_folder(folder, size, *shared)
    else:
        names = None if options["classes"] is None else options["classes"].split(",")
        if names is not None and (not all(names) or len(set(names)) < len(names)):
            raise ValueError(
                f"--classes is {options['classes']!r}; it must be different names with commas "
                "between them"
            )
        recipe, skipped = recipes.mask_folder(folder, names, options["crop"], *shared)
    for problem in skipped:
        click.echo(f"skipped: {problem}", err=True)
    if skipped:
        click.echo(f"skipped {len(skipped)} files of {folder}", err=True)
    return recipe


def _resume(learner: Learner, last: Path, asked: dict[str, Any]) -> Position:
    """Where a training goes on.

    Raises
    ------
    ValueError
        If there is none, it was another one, or it is done.
    """
    if not last.exists():
        raise ValueError(f"--resume needs {last}, which a training writes; leave --resume out")
    found = read(last).info.get("asked", {})
    others = [key for key in asked if found.get(key) != asked[key]]
    if others:
        said = ", ".join(f"--{key.replace('_', '-')} {found.get(key)}" for key in others)
        raise ValueError(f"{last} is of a training with {said}; resume it with the same options")
    return resume_training(learner, last)


def _train(
    learner: Learner,
    recipe: Recipe,
    asked: dict[str, Any],
    output: Path,
    last: Path,
    start: Position | None,
) -> None:
    parameters = sum(p.tensor.size for p in learner.model.parameters)
    click.echo(f"network   {asked['model']}, {parameters:,} parameters, on {learner.model.device}")
    if start is not None:
        click.echo(f"resumed   in epoch {start.epoch}, after {len(learner.history['loss'])} steps")

    def show(learner: Learner, epoch: int) -> None:
        result = learner.history["validation"][-1]
        shown = {"loss": result["loss"], recipe.monitor: result[recipe.monitor]}
        text = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        with Progress.external_write_mode():
            click.echo(f"epoch {epoch:3}/{asked['epochs']}  held out: {text}")

    info = recipe.task.as_info()
    callbacks: list[Callback | Function] = [
        KeepBest(output, recipe.monitor, info=info),
        KeepLast(last, info=info | {"asked": asked}),
        show,
    ]
    try:
        learner.fit(
            recipe.train,
            recipe.validation,
            epochs=asked["epochs"],
            batch_size=asked["batch_size"],
            seed=asked["seed"],
            metrics=recipe.metrics,
            callbacks=callbacks,
            start=start,
        )
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo("\ninterrupted; the same command with --resume goes on", err=True)
        if learner.history.get("steps"):
            click.echo(f"the best of the epochs so far is in {output}", err=True)
        raise SystemExit(130) from None
