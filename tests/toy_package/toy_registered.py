"""The same backend, known by a call instead of an entry point."""

from toy_backend import pytest_terminal_summary  # noqa: F401  # the plugin's hook

import tinyml

tinyml.register_backend("toy", "toy_backend:ToyBackend")
