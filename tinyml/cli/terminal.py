"""The group of all commands: what holds for the output of each of them, and how it ends."""

import _thread
import atexit
import codecs
import contextlib
import os
import signal
import sys
import time
from typing import Any, NoReturn

import click

from tinyml.cli.outputs import Failure
from tinyml_backends import threads

#: Plain text for signs that an encoding lacks; any other becomes a question mark.
PLAIN = {"×": "x", "−": "-", "–": "-", "…": "...", "’": "'"}


def plain_text(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: similar plain text for signs that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


codecs.register_error("tinyml-plain-text", plain_text)


def interrupt_again(error: "sys.UnraisableHookArgs") -> None:
    """Deliver an interrupt once more that came where Python cannot raise it, as in ``__del__``."""
    if issubclass(error.exc_type, KeyboardInterrupt):
        _thread.start_new_thread(_interrupt_soon, ())
    else:
        sys.__unraisablehook__(error)


def _interrupt_soon() -> None:
    time.sleep(0.01)
    _thread.interrupt_main()


class Program(click.Group):
    """Commands that show no traceback because of a terminal, a file or a variable."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; see `click.Group.main`."""
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure:
                reconfigure(errors="tinyml-plain-text")
        # an interrupt while the interpreter ends would print a traceback
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        before, sys.unraisablehook = sys.unraisablehook, interrupt_again
        try:
            return super().main(*args, **options)
        except KeyboardInterrupt:  # this came later than the one that `invoke` handles
            _end("interrupted", 130)
        except MemoryError as error:
            _end(f"out of memory: {error}" if str(error) else "out of memory", 2)
        except OSError as error:  # commands handle errors of files that they were given
            _end(f"the output cannot be written: {error.strerror or error}", 2)
        finally:
            sys.unraisablehook = before

    def invoke(self, ctx: click.Context) -> Any:
        """Check the environment, and run the command."""
        try:
            threads.configured_threads()
        except ValueError as error:
            raise Failure(str(error)) from error
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would exit with 1
            _end("interrupted", 130)


def _end(message: str, code: int) -> NoReturn:
    """Exit with one line on standard error, without a second error when files are closed."""
    with contextlib.suppress(OSError):
        click.echo(f"Error: {message}", err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what it still holds is dropped
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
