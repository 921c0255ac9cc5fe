"""``tinyml info``."""

import platform
import sys

import click
import numpy as np

import tinyml


@click.command("info")
def command() -> None:
    """Show versions, all backends, and why one cannot run here.

    Exits with 2 if the backend that TINYML_BACKEND names is unknown or cannot run.
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
