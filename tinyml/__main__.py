"""The program ``tinyml``, which is also ``python -m tinyml``."""

import sys


def main() -> None:
    """Run the program; Ctrl-C while its modules are imported ends it too without a traceback."""
    try:
        from tinyml.cli import main as program
    except KeyboardInterrupt:
        sys.exit(130)
    program()


if __name__ == "__main__":
    main()
