"""Parameters, and the array module of the selected backend under its original name.

``from tinyml.core import Backend as np`` gives NumPy's interface on whatever backend is in force at
each access:

>>> from tinyml.core import Backend as np
>>> np.arange(3)
array([0, 1, 2])
"""

from typing import Any

from tinyml.core.parameter import Buffer, Parameter
from tinyml_backends import current_backend


class _SelectedModule:
    """Looks every name up in the array module of the backend in force at that moment."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_backend().array_module, name)

    def __dir__(self) -> list[str]:
        return dir(current_backend().array_module)

    def __repr__(self) -> str:
        return f"<array module of the selected backend: {current_backend().array_module.__name__}>"


Backend = _SelectedModule()

__all__ = ["Backend", "Buffer", "Parameter"]
