"""Parameters, and `Backend`, the original library's name for the selected array module.

Each access to an attribute of ``Backend`` looks it up in the array module (such as NumPy) of the
backend that is selected at that moment:

>>> from tinyml.core import Backend as np
>>> np.arange(3)
array([0, 1, 2])
"""

from typing import Any

from tinyml.core.parameter import Buffer, Parameter
from tinyml_backends import current_backend


class _SelectedModule:
    """Looks up each attribute in the array module of the backend that is selected then."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_backend().array_module, name)

    def __dir__(self) -> list[str]:
        return dir(current_backend().array_module)

    def __repr__(self) -> str:
        return f"<array module of the selected backend: {current_backend().array_module.__name__}>"


Backend = _SelectedModule()

__all__ = ["Backend", "Buffer", "Parameter"]
