"""``tinyml summary``."""

from pathlib import Path

import click

import tinyml
from tinyml.checkpoint import read
from tinyml.cli.outputs import Failure, height_and_width
from tinyml.prediction import Task


@click.command("summary")
@click.argument("model", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--size",
    metavar="HxW",
    help="Height and width of the input, for example 360x480; by default what it was built for.",
)
def command(model: Path, size: str | None) -> None:
    """Describe the network in a checkpoint.

    A row for each layer: the shape of its output for one sample, learned parameters,
    multiply-adds of a forward pass, and the bytes of its output and of the switches (positions of
    maxima) that pooling keeps. Above it stand the task, the classes and the scaling of inputs, if
    the file has them.

    For example: tinyml summary tinyml-demo.safetensors --size 360x480
    """
    try:
        checkpoint = read(model)
        network = checkpoint.model
        dims: tuple[tuple[int, ...], ...] = ()
        if "task" in checkpoint.info:
            task = Task.of_info(checkpoint.info)
            click.echo(f"{task.kind} into {len(task.classes)} classes: {', '.join(task.classes)}")
            means, deviations = (
                ", ".join(f"{value:g}" for value in values)
                for values in (task.mean, task.deviation)
            )
            click.echo(f"inputs: {task.dtype}, (pixel - {means}) / {deviations}\n")
            if task.size and not hasattr(network, "input_dim"):
                dims = ((task.channels, *task.size),)
        if size is not None:
            height, width = height_and_width(size)
            channels = network.input_dim[0] if hasattr(network, "input_dim") else task.channels
            dims = ((channels, height, width),)
        click.echo(str(network.summary(*dims)))
    except OSError as error:
        raise Failure(f"{model} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, tinyml.BackendUnavailableError) as error:
        raise Failure(str(error)) from error
