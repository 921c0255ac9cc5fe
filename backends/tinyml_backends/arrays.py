"""The array type of signatures."""

from typing import Any, TypeAlias

#: An array of a backend's library (``numpy.ndarray``, ``cupy.ndarray``, …). NumPy and CuPy share no
#: static type, so the name documents and mypy does not check it; the backends check at run time.
Array: TypeAlias = Any
