"""Methods and operators of the stand-in array, which call those of NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from emulation.api import METHODS, bind
from emulation.array import SCALARS, call, ndarray
from emulation.memory import synchronise

#: Methods that return views, which do not need the current device.
_VIEWS = {"reshape", "transpose", "swapaxes", "squeeze", "ravel", "view"}

_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.abs, "invert": np.invert}


def _method(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        bind(name, METHODS[name], args, kwargs)
        if name == "nonzero":
            synchronise()
        return call(getattr(np.ndarray, name), (self, *args), kwargs, here=name not in _VIEWS)

    method.__name__ = name
    return method


def _operator(ufunc: np.ufunc, *, reflected: bool = False) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (*SCALARS, ndarray, np.ndarray)):
            return NotImplemented
        return call(ufunc, (other, self) if reflected else (self, other), {})

    return method


def _in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (*SCALARS, ndarray, np.ndarray)):
            return NotImplemented
        return call(ufunc, (self, other), {"out": self})

    return method


def equip() -> None:
    """Add all methods and operators to the class."""
    for name in METHODS:
        if name not in vars(ndarray):
            setattr(ndarray, name, _method(name))
    for name, ufunc in _ARITHMETIC.items():
        setattr(ndarray, f"__{name}__", _operator(ufunc))
        setattr(ndarray, f"__r{name}__", _operator(ufunc, reflected=True))
        setattr(ndarray, f"__i{name}__", _in_place(ufunc))
    ndarray.__matmul__ = _operator(np.matmul)  # CuPy has no __imatmul__
    ndarray.__rmatmul__ = _operator(np.matmul, reflected=True)
    for name, ufunc in _COMPARISONS.items():
        setattr(ndarray, f"__{name}__", _operator(ufunc))
    for name, ufunc in _UNARY.items():
        setattr(ndarray, f"__{name}__", lambda self, f=ufunc: call(f, (self,), {}))
