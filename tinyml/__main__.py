"""``python -m tinyml`` is ``tinyml``."""

from tinyml.cli import main

if __name__ == "__main__":
    main()
