"""Checks of what a command is given and of the files that it writes; errors in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

#: Largest height and width that an option may ask for.
LONGEST = 1 << 16
PICTURES = (".jpg", ".pdf", ".png", ".svg")


class Failure(click.ClickException):
    """One sentence on standard error, and exit code 2."""

    exit_code = 2


def check_output(
    name: str,
    output: Path,
    inputs: Sequence[Path | None],
    their_name: str,
    suffixes: Sequence[str] | None = None,
) -> None:
    """Check that a file can be written and overwrites no input.

    Parameters
    ----------
    name, output : str, Path
        The option, for the message, and its file.
    inputs, their_name : sequence of (Path or None), str
        Files that the command reads, and what they are called.
    suffixes : sequence of str, optional
        File endings that are allowed; by default all.

    Raises
    ------
    ValueError
        If it cannot be written, is one of the inputs, or has an ending that is not allowed.
    """
    if suffixes and output.suffix.lower() not in suffixes:
        raise ValueError(f"{name} {output} is none of {', '.join(suffixes)}")
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


def height_and_width(text: str) -> tuple[int, int]:
    """Numbers of the option --size.

    Raises
    ------
    ValueError
        If it is not of the form 360x480, or a number is more than `LONGEST`.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(
        part.isdecimal() and (len(part) > 9 or int(part)) for part in parts
    ):
        raise ValueError(f"--size is {text!r}; it must be height and width, for example 360x480")
    if max(len(part) for part in parts) > 9 or max(map(int, parts)) > LONGEST:
        raise ValueError(f"--size is {text!r}; height and width must be at most {LONGEST}")
    return int(parts[0]), int(parts[1])
