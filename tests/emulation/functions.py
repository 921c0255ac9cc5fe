"""Functions of the stand-in module: NumPy's on wrapped arrays, except those that differ."""

import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emulation import observed
from emulation.api import AT, FUNCTIONS, OF_SEQUENCES, SYNCHRONISING, VARIADIC, bind
from emulation.array import adopt, call, ndarray, new, stable, unwrap
from emulation.memory import check_device, synchronise

_UFUNC_KEYWORDS = {"out", "dtype", "casting"}


class ufunc:
    """An elementwise function, with ``at`` if CuPy has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__name__ = f"cupy_{name}"
        self._numpy: np.ufunc = getattr(np, name)
        self.nin, self.nout = self._numpy.nin, self._numpy.nout

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= _UFUNC_KEYWORDS:
            raise TypeError(f"{self.name}() takes no {sorted(kwargs.keys() - _UFUNC_KEYWORDS)}")
        if len(args) == self.nin + 1:
            *args, kwargs["out"] = args
        for argument in args:
            unwrap(argument, [], scalars=True)
        return call(self._numpy, args, kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.name not in AT:
            raise NotImplementedError(f"cupy.{self.name}.at")
        if a.dtype.name not in AT[self.name]:
            raise TypeError(
                f"cupy.{self.name}.at only supports {', '.join(AT[self.name])} as data type, "
                f"not {a.dtype}"
            )
        check_device(a._memory)
        with np.errstate(all="ignore"):
            self._numpy.at(a._host, unwrap(indices, []), unwrap(b, [], scalars=True))
        a._memory.fresh = False

    def __repr__(self) -> str:
        return f"<ufunc 'cupy_{self.name}'>"


def unwrap_scalar(value: Any) -> Any:
    unwrap(value, [], scalars=True)
    return value


def function(name: str) -> Callable[..., Any]:
    """The function of that name in the table."""
    own = globals().get(f"_{name}")

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        bind(name, FUNCTIONS[name], args, kwargs)
        if name in SYNCHRONISING:
            synchronise()
        if own is not None:
            return own(*args, **kwargs)
        _check_arrays(name, args)
        return call(getattr(np, name), args, kwargs)

    wrapped.__name__ = name
    return wrapped


def _check_arrays(name: str, args: Sequence[Any]) -> None:
    """Refuse host data where CuPy takes only its own arrays."""
    if name in VARIADIC:
        arrays = [a for a in args if not isinstance(a, str)]
    elif name in OF_SEQUENCES:
        if not isinstance(args[0], list | tuple):
            raise TypeError(f"{name}: a sequence of arrays is needed, not {type(args[0])}")
        arrays = list(args[0])
    else:
        arrays = list(args[:1])
        wanted = FUNCTIONS[name].split()
        others = {"b", "a2", "indices", "v"}  # always arrays
        arrays += [a for n, a in zip(wanted, args, strict=False) if n in others and not _number(a)]
    for a in arrays:
        if not isinstance(a, ndarray):
            raise TypeError(f"{name}: Unsupported type {type(a)}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.generic)


# -- creation --------------------------------------------------------------------------------


def _array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    order = order or "K"
    if isinstance(obj, ndarray):
        dtype = obj.dtype if dtype is None else np.dtype(dtype)
        fits = {"C": obj.flags.c_contiguous, "F": obj.flags.f_contiguous}.get(order, True)
        if not copy and dtype == obj.dtype and fits and obj.ndim >= ndmin:
            check_device(obj._memory)
            return obj
        host = obj._host
    elif hasattr(obj, "__cuda_array_interface__"):
        shared = _shared(obj.__cuda_array_interface__, obj)
        return _array(shared, dtype, copy, order, subok, ndmin)
    else:
        host = _from_host(obj)
    if dtype is not None:
        with np.errstate(all="ignore"):
            host = host.astype(dtype, copy=False)
    result = new(host.reshape((1,) * (ndmin - host.ndim) + host.shape), order)
    if isinstance(obj, ndarray):
        observed.tell("called", "copy", (obj,), (result,))
    else:
        observed.tell("copied", "to device", result.nbytes)
    return result


def _shared(interface: dict[str, Any], owner: object) -> ndarray:
    """Array that shares the emulated device memory of another object."""
    pointer = types.SimpleNamespace(__array_interface__={**interface, "version": 3}, owner=owner)
    host = np.asarray(pointer) if interface["data"][0] else np.empty(interface["shape"])
    return adopt(host.astype(interface["typestr"], copy=False))


def _from_host(obj: Any) -> np.ndarray:
    """NumPy array of host data, or of a nested sequence of device arrays."""
    if isinstance(obj, list | tuple) and obj and isinstance(_first(obj), ndarray):
        return np.array(unwrap(obj, []))
    host = np.array(obj)
    if host.dtype.kind == "O":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    return host


def _first(nested: Any) -> Any:
    while isinstance(nested, list | tuple) and nested:
        nested = nested[0]
    return nested


def _asarray(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    blocking: bool = False,
) -> ndarray:
    if copy is False and not isinstance(a, ndarray):
        raise ValueError("host data cannot be used without a copy")
    return _array(a, dtype, bool(copy), order)


def _ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return _array(a, dtype, False, "C", ndmin=1)


def _asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    return _array(a, dtype, False, "F")


def _asnumpy(
    a: Any, stream: object = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def _from_dlpack(array: Any, *, device: object = None, copy: bool | None = None) -> ndarray:
    if isinstance(array, ndarray):
        return array.copy() if copy else array[...]
    if array.__dlpack_device__()[0] == 2:
        raise BufferError("memory of a real CUDA device is not reachable from an emulated one")
    raise TypeError(
        "CPU arrays cannot be directly imported to CuPy. Use "
        "`cupy.array(numpy.from_dlpack(input))` instead."
    )


def _empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order)


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.array(fill_value).dtype
    array = ndarray(shape, dtype, order)
    array.fill(fill_value)
    return array


def _zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    array = ndarray(shape, dtype, order)
    observed.tell("called", "fill", (), (array,))
    if not array._memory.zero:  # writing to a sparse mapping would allocate its pages
        array._host.fill(0)
    array._memory.fresh = False
    return array


def _ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return _full(shape, 1, dtype, order)


def _like(a: ndarray, dtype: Any, order: str, shape: Any) -> tuple[Any, Any, str]:
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    check_device(a._memory)
    if order in ("K", "A"):
        order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
    return a.shape if shape is None else shape, a.dtype if dtype is None else dtype, order


def _empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return _empty(*_like(prototype, dtype, order, shape))


def _zeros_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return _zeros(*_like(a, dtype, order, shape))


def _ones_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return _ones(*_like(a, dtype, order, shape))


def _full_like(
    a: ndarray,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: Any = None,
    shape: Any = None,
) -> ndarray:
    shape, dtype, order = _like(a, dtype, order, shape)
    return _full(shape, fill_value, dtype, order)


def _host_only(name: str) -> Callable[..., ndarray]:
    """A function that creates an array from numbers alone."""

    def made(*args: Any, **kwargs: Any) -> ndarray:
        return new(getattr(np, name)(*args, **kwargs))

    return made


_arange, _linspace = _host_only("arange"), _host_only("linspace")
_eye, _indices = _host_only("eye"), _host_only("indices")


# -- where CuPy differs ----------------------------------------------------------------------


def _may_share_memory(a: ndarray, b: ndarray, max_work: object = None) -> bool:
    return bool(np.may_share_memory(a._host, b._host))


def _where(condition: ndarray, x: Any = None, y: Any = None) -> Any:
    if not isinstance(condition, ndarray):
        raise TypeError(f"where: Unsupported type {type(condition)}")
    if x is None and y is None:
        return condition.nonzero()
    for value in (x, y):
        unwrap(value, [], scalars=True)
    return call(np.where, (condition, x, y), {})


def _take(a: ndarray, indices: Any, axis: int | None = None, out: Any = None) -> ndarray:
    _check_arrays("take", (a, indices))
    return call(np.take, (a, indices, axis), {"out": out} if out is not None else {})


def _put_along_axis(arr: ndarray, indices: ndarray, values: Any, axis: int | None) -> None:
    _check_arrays("put_along_axis", (arr, indices))
    for array in (arr, indices):
        check_device(array._memory)
    grid = list(np.indices(indices.shape, sparse=True))
    grid[axis if axis is not None else 0] = indices._host
    arr[tuple(new(g) for g in np.broadcast_arrays(*grid))] = values


def _append(arr: ndarray, values: Any, axis: int | None = None) -> ndarray:
    return call(np.append, (arr, unwrap_scalar(values), axis), {})


def _argsort(a: ndarray, axis: int | None = -1, kind: str | None = None) -> ndarray:
    return a.argsort(axis, kind)


def _sort(a: ndarray, axis: int | None = -1, kind: str | None = None) -> ndarray:
    _check_arrays("sort", (a,))
    return call(np.sort, (a, axis), {"kind": stable(kind)})


def _result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*(a.dtype if isinstance(a, ndarray) else a for a in arrays_and_dtypes))


def _can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, ndarray) else from_, to, casting)


def _promote_types(type1: Any, type2: Any) -> np.dtype:
    return np.promote_types(type1, type2)


def _matmul(x1: ndarray, x2: ndarray, out: Any = None, **kwargs: Any) -> ndarray:
    _check_arrays("dot", (x1, x2))
    return call(np.matmul, (x1, x2), kwargs if out is None else {**kwargs, "out": out})
