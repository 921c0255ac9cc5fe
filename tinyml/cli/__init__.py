"""The command line, ``tinyml``. Each command has a file in this package."""

import click

import tinyml
from tinyml.cli import bench, demo, info


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tinyml.__version__, prog_name="tinyml")
def main() -> None:
    """Exact max-pooling and max-unpooling, the same on every device.

    The backend is chosen by the environment variable TINYML_BACKEND, for example
    TINYML_BACKEND=numpy; `tinyml info` lists all backends.
    """


for module in (info, demo, bench):
    main.add_command(module.command)
