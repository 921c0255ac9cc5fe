"""``tinyml info``."""

import os
import platform
import sys

import click
import numpy as np

import tinyml
from tinyml.bench.environment import blas
from tinyml_backends import selection, threads


@click.command("info")
def command() -> None:
    """Show versions, all backends and why one cannot run here, threads and BLAS.

    The last line is the selected backend, and why it is selected.

    Exits with 2 if the backend that TINYML_BACKEND names is unknown or cannot run.
    """
    click.echo(f"tinyml {tinyml.__version__}, NumPy {np.__version__}")
    click.echo(f"Python {platform.python_version()} on {platform.platform()}")
    click.echo("backends:")
    for status in tinyml.backends():
        state = "available" if status.available else f"not available: {status.reason}"
        click.echo(f"  {status.name:<8} {state}")
    count = threads.configured_threads()
    click.echo(f"threads: {count} ({_reason(threads.VARIABLE, 'one for each CPU')})")
    click.echo(f"BLAS: {blas()}")
    try:
        name = tinyml.current_backend().name
    except (ValueError, tinyml.BackendUnavailableError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    click.echo(f"selected: {name} ({_reason(selection.VARIABLE, 'the default')})")


def _reason(variable: str, otherwise: str) -> str:
    value = os.environ.get(variable, "").strip()
    return f"{variable} is {value}" if value else f"{otherwise}; {variable} is not set"
