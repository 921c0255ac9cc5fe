"""Files that a command writes, looked at before its work begins; failures in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

PICTURES = (".jpg", ".pdf", ".png", ".svg")


class Failure(click.ClickException):
    """One sentence on standard error, and exit code 2."""

    exit_code = 2


def check_picture(name: str, output: Path) -> None:
    """Refuse a file whose ending names no picture."""
    if output.suffix.lower() not in PICTURES:
        raise ValueError(f"{name} {output} is none of {', '.join(PICTURES)}")


def check_output(name: str, output: Path, inputs: Sequence[Path | None], their_name: str) -> None:
    """Find out that a file can be written, and harms nothing: it is none of the inputs.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if output.exists() and not output.is_file():
        raise ValueError(f"{name} {output} cannot be written: it is no regular file")
    if output.exists() and any(file and file.exists() and output.samefile(file) for file in inputs):
        raise ValueError(f"{name} {output} is {their_name}; name another file")
    try:
        if output.exists():
            with output.open("ab"):
                pass
        else:
            with NamedTemporaryFile(dir=output.parent):
                pass
    except OSError as error:
        raise ValueError(f"{name} {output} cannot be written: {error.strerror}") from error
