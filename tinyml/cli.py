"""The command line: ``tinyml --help`` says what it does."""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np

import tinyml
from tinyml.bench.command import bench
from tinyml.data.pairs import read_pair
from tinyml.outputs import Failure, check_output, check_picture


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tinyml.__version__, prog_name="tinyml")
def main() -> None:
    """Exact max-pooling and max-unpooling, the same on every device.

    The backend is chosen by the environment variable TINYML_BACKEND, for example
    TINYML_BACKEND=numpy; `tinyml info` lists those known here.
    """


@main.command()
def info() -> None:
    """Show versions, all backends, and why one cannot run here.

    Exits with 2 if the backend that TINYML_BACKEND asks for is unknown or cannot run.
    """
    click.echo(f"tinyml {tinyml.__version__}, NumPy {np.__version__}")
    click.echo(f"Python {platform.python_version()} on {platform.platform()}")
    click.echo("backends:")
    for status in tinyml.backends():
        state = "available" if status.available else f"not available: {status.reason}"
        click.echo(f"  {status.name:<8} {state}")
    try:
        click.echo(f"selected: {tinyml.current_backend().name}")
    except (ValueError, tinyml.BackendUnavailableError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


@main.command()
@click.option("--backend", metavar="NAME", help="Backend to run on; `tinyml info` lists them.")
@click.option(
    "--steps",
    default=400,
    show_default=True,
    type=click.IntRange(min=1),
    help="Training steps, each on eight crops.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Where the first weights and the crops come from.",
)
@click.option(
    "--output",
    default="tinyml-demo.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Picture to write.",
)
@click.option("--image", type=click.Path(path_type=Path), help="Your own image, with --mask.")
@click.option("--mask", type=click.Path(path_type=Path), help="Its mask: not 0 in the foreground.")
def demo(
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
    which it has never seen. The last line printed gives the intersection over union (IoU) of the
    foreground and the share of right pixels, beside what the best grey level can do; the picture
    shows the right half, the truth, the prediction, the errors and the training curve.

    With --image and --mask it does the same to your own pair: PNG, TIFF or npz files, grey or RGB,
    uint8 or uint16, at least 64 pixels high and 128 wide.

    Ctrl-C ends the training early; what was learned is still tested and drawn.
    """
    missing = [m for m in ("matplotlib", "tifffile", "imagecodecs") if find_spec(m) is None]
    if missing:
        raise Failure(
            f"the demo needs {', '.join(missing)}; in the clone of tinyml run: "
            "python3 -m pip install '.[demo]'"
        )
    from tinyml import demo as steps_of

    try:
        if (image is None) != (mask is None):
            raise ValueError("--image and --mask go together; give both or neither")
        with tinyml.use_backend(backend or tinyml.current_backend()):
            check_picture("output", output)
            check_output("output", output, (image, mask), "your image or mask")
            picture, truth = read_pair(image, mask) if image and mask else steps_of.nuclei()
            data = steps_of.halves(picture, truth)
            learner = steps_of.build(data, seed)
            click.echo(steps_of.heading(learner, data))
            seconds = steps_of.train(learner, data, steps, seed)
            result = steps_of.find(learner, data, seconds)
            ours = steps_of.score(result.found, truth[:, data.cut :])
            plain = steps_of.threshold(picture, truth, data.cut)
            click.echo(steps_of.report(result, steps))
            scores = (
                f"IoU {ours.iou:.3f} (threshold {plain.iou:.3f}), "
                f"pixel accuracy {ours.accuracy:.3f} (threshold {plain.accuracy:.3f})"
            )
            try:
                steps_of.draw(output, data, result, ours, plain)
            except OSError as error:  # a full disk; the scores are not lost with the picture
                click.echo(scores)
                raise ValueError(f"output {output} cannot be written: {error}") from error
    except (ValueError, tinyml.BackendUnavailableError, FloatingPointError) as error:
        raise Failure(str(error)) from error
    click.echo(f"picture   {output}")
    click.echo(scores)


main.add_command(bench)
