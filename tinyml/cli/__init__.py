"""The command line, ``tinyml``. Each command has a file in this package."""

import click

import tinyml
from tinyml.cli import bench, demo, info, predict, summary, train
from tinyml.cli.terminal import Program


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tinyml.__version__, prog_name="tinyml")
def main() -> None:
    """Exact max-pooling and max-unpooling, the same on every device.

    The backend is chosen by the environment variable TINYML_BACKEND, for example
    TINYML_BACKEND=numpy; `tinyml info` lists all backends. TINYML_NUM_THREADS is the number of
    threads; by default each CPU that the process may use has one.
    """


for module in (info, demo, train, predict, summary, bench):
    main.add_command(module.command)
