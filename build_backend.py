"""Hatchling's build backend. Older Pythons are refused first: pip may take minutes to do that."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("tinyml needs Python 3.11 or newer; this is Python " + sys.version.split()[0])

from hatchling.build import *  # noqa: F403
