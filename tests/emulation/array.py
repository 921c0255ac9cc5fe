"""The stand-in for ``cupy.ndarray``: a wrapped NumPy array.

It has CuPy's attributes, and refuses what CuPy refuses: implicit conversion to NumPy, and NumPy
arrays in an operation. Every result is an array, never a scalar. It also refuses operations that
CuPy accepts, but whose results are undefined, or which are slow or depend on the machine.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emulation import indexing, observed
from emulation.api import UFUNCS
from emulation.device import Device
from emulation.memory import Adopted, EmulationError, Memory, check_device, synchronise

DTYPES = "?bhilqBHILQefdFD"
SCALARS = (bool, int, float, complex, np.generic)


class Flags(NamedTuple):
    c_contiguous: bool
    f_contiguous: bool
    owndata: bool

    @property
    def forc(self) -> bool:
        return self.c_contiguous or self.f_contiguous


class Pointer(NamedTuple):
    """As ``cupy.cuda.MemoryPointer``."""

    ptr: int
    device_id: int


class ndarray:
    __slots__ = ("__weakref__", "_host", "_memory", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, order: str = "C") -> None:
        dtype = np.dtype(dtype)
        if dtype.char not in DTYPES:
            raise ValueError(f"Unsupported dtype {dtype}")
        lengths = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        count = int(np.prod([int(n) for n in lengths], dtype=object))
        self._memory = Memory(count * dtype.itemsize)
        host = self._memory.host(lengths[::-1] if order == "F" else lengths, dtype)
        self._host = host.T if order == "F" else host
        self.base = None

    # -- attributes --------------------------------------------------------------------------

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    device = property(lambda self: Device(self._memory.device))
    T = property(lambda self: self.transpose())

    @property
    def flags(self) -> Flags:
        flags = self._host.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, self.base is None)

    @property
    def data(self) -> Pointer:
        pointer = address(self._host) if self._memory.nbytes else 0
        return Pointer(pointer, self._memory.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self._host.flags.c_contiguous else self.strides
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "strides": strides,
            "version": 3,
        }

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    # -- conversion to NumPy ------------------------------------------------------------

    def get(
        self, stream: object = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        synchronise()
        observed.tell("copied", "to host", self.nbytes)
        if out is None:
            return self._host.copy(order)
        np.copyto(out, self._host, casting="no")
        return out

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __dlpack__(self, **kwargs: object) -> object:
        raise BufferError("memory of an emulated CUDA device cannot be shared")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._memory.device

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} on a CuPy array; use the array's own module")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in (*UFUNCS, "matmul"):
            raise TypeError(f"CuPy has no {ufunc.__name__} for this call ({method})")
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return call(ufunc, inputs, kwargs)

    def item(self) -> Any:
        synchronise()
        observed.tell("copied", "to host", self.nbytes)
        return self._host.item()

    def tolist(self) -> Any:
        synchronise()
        return self._host.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        synchronise()
        return self._host.tobytes(order)

    def __bool__(self) -> bool:
        synchronise()
        observed.tell("copied", "to host", self.nbytes)
        return bool(self._host)

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        synchronise()
        return self._host.__index__()

    def __repr__(self) -> str:
        synchronise()
        return repr(self._host)

    def __str__(self) -> str:
        synchronise()
        return str(self._host)

    def __format__(self, specification: str) -> str:
        synchronise()
        return format(self._host if self.ndim else self._host[()], specification)

    # -- elements ----------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> "ndarray":
        items, arrays = indexing.parse(key, ndarray)
        if not arrays:
            return _wrap(self._host[items], self._memory, self)
        check_device(self._memory)
        if any(a.dtype.kind == "b" for a in arrays):
            synchronise()  # the shape depends on the values
        result = new(np.array(self._host[indexing.host(items, ndarray)]))
        observed.tell("called", "take", (result, *arrays), (result,))
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        items, arrays = indexing.parse(key, ndarray)
        check_device(self._memory)
        unwrapped = unwrap(value, [], scalars=True)
        if isinstance(value, ndarray) and any(a.dtype.kind == "b" for a in arrays):
            synchronise()
        items = indexing.host(items, ndarray)
        if observed.current() is not None:
            part = _wrap(np.asarray(self._host[items]), self._memory, self)
            given = [*arrays, *([value] if isinstance(value, ndarray) else [])]
            observed.tell("called", "copy", given, (part,))
        with np.errstate(all="ignore"):
            self._host[items] = unwrapped
        self._memory.fresh = False
        if arrays and np.size(unwrapped) > 1 and indexing.has_duplicates(items, self.shape):
            raise EmulationError(
                "an assignment through an index that holds duplicates; which value is stored is "
                "undefined on CuPy"
            )

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def fill(self, value: Any) -> None:
        check_device(self._memory)
        observed.tell("called", "fill", (), (self,))
        self._host.fill(unwrap(value, [], scalars=True))
        self._memory.fresh = False

    # -- copies ------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> "ndarray":
        result = new(self._host, order)
        observed.tell("called", "copy", (self,), (result,))
        return result

    def __copy__(self) -> "ndarray":
        return self.copy()

    def __deepcopy__(self, memo: object) -> "ndarray":
        with Device(self._memory.device):
            return self.copy()

    def __reduce__(self) -> Any:
        return new, (self.get(),)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: str | None = None,
        subok: bool | None = None,
        copy: bool = True,
    ) -> "ndarray":
        if not copy and np.dtype(dtype) == self.dtype and order == "K":
            return self
        check_device(self._memory)
        with np.errstate(all="ignore"):
            result = self._host.astype(dtype, order, casting=casting or "unsafe")
        if result.dtype == np.float16 != self.dtype:  # on a GPU every NaN becomes this one
            result.view(np.uint16)[np.isnan(result)] = 0x7FFF
        made = new(result, order)
        observed.tell("called", "astype", (self,), (made,))
        return made

    def argsort(self, axis: int | None = -1, kind: str | None = None) -> "ndarray":
        return call(np.argsort, (self, axis), {"kind": stable(kind)})

    def sort(self, axis: int = -1, kind: str | None = None) -> None:
        check_device(self._memory)
        self._host.sort(axis, stable(kind))
        self._memory.fresh = False


def _wrap(host: np.ndarray, memory: Memory, base: ndarray | None) -> ndarray:
    array = ndarray.__new__(ndarray)
    array._host, array._memory, array.base = host, memory, base
    return array


def new(host: Any, order: str = "C") -> ndarray:
    """A new array on the current device with the values, and their bits, of a host array."""
    host = np.asarray(host)
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    fortran = host.flags.f_contiguous and not host.flags.c_contiguous
    if order in ("C", "F"):
        fortran = order == "F"
    array = ndarray(host.shape, host.dtype.newbyteorder("="), "F" if fortran else "C")
    np.copyto(array._host, host)
    array._memory.fresh = False
    return array


def adopt(host: np.ndarray) -> ndarray:
    """An array that shares the memory of a host array, for example of a sparse mapping."""
    return _wrap(host, Adopted(host), None)


def address(host: np.ndarray) -> int:
    return host.__array_interface__["data"][0]


def stable(kind: str | None) -> str:
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    return "stable"


def unwrap(value: Any, sources: list[ndarray], *, scalars: bool = False, here: bool = True) -> Any:
    """Host value of an argument; its arrays are appended to ``sources``.

    With ``scalars``, only arrays and scalars are allowed. With ``here``, arrays must be on the
    current device.
    """
    if isinstance(value, ndarray):
        if here:
            check_device(value._memory)
        sources.append(value)
        return value._host
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, np.ndarray) or scalars:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        return type(value)(unwrap(v, sources, here=here) for v in value)
    return value


def call(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], *, here: bool = True
) -> Any:
    """Result of a NumPy function, as new arrays or as views of the arguments."""
    sources: list[ndarray] = []
    host_args = [unwrap(a, sources, here=here) for a in args]
    host_kwargs = {k: unwrap(v, sources, here=here) for k, v in kwargs.items()}
    out = kwargs.get("out")
    observer = observed.current()
    if observer is not None and observer.lazy and (made := _uncomputed(function, host_args)):
        result = out if out is not None else ndarray(*made)
    else:
        with np.errstate(all="ignore"):
            result = function(*host_args, **host_kwargs)
        result = out if out is not None else _results(result, sources)
    if out is not None:
        out._memory.fresh = False
    if observer is not None:
        _observe(observer, function, args, sources, result, out)
    return result


#: Results of at least so many elements may be left uncomputed.
LARGE = 1 << 18


def _uncomputed(function: Any, args: Sequence[Any]) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and dtype of a large result that need not be computed, else None."""
    if not isinstance(function, np.ufunc) or function.nout > 1:
        return None
    shapes = [np.shape(a) for a in args]
    if function is np.matmul:
        if min(map(len, shapes)) < 2:
            return None
        shape = (
            *np.broadcast_shapes(*(s[:-2] for s in shapes)),
            *(shapes[0][-2], shapes[1][-1]),
        )
    else:
        shape = np.broadcast_shapes(*shapes)
    if np.prod(shape, dtype=float) < LARGE:
        return None
    tiny = [np.zeros((1,) * a.ndim, a.dtype) if isinstance(a, np.ndarray) else a for a in args]
    with np.errstate(all="ignore"):
        return shape, np.asarray(function(*tiny)).dtype


def _observe(
    observer: observed.Observer,
    function: Any,
    args: Sequence[Any],
    sources: Sequence[ndarray],
    result: Any,
    out: ndarray | None,
) -> None:
    results = result if isinstance(result, list | tuple) else [result]
    if out is None and all(any(r._memory is s._memory for s in sources) for r in results):
        return  # views
    if function is np.matmul:
        rows, terms = args[0].shape[-2:] if args[0].ndim > 1 else (1, args[0].size)
        batch = int(np.prod(result.shape[:-2])) if result.ndim > 2 else 1
        columns = result.size // max(1, batch * rows)
        observer.multiplied("matmul", (*args[:2], result), (batch, rows, columns, terms))
    else:
        kind = "ufunc" if isinstance(function, np.ufunc) else function.__name__
        given = [s for s in sources if s is not out or any(s is a for a in args)]
        observer.called(kind, given, results)


def _results(result: Any, sources: list[ndarray]) -> Any:
    if isinstance(result, list | tuple):
        return type(result)(_results(r, sources) for r in result)
    host = np.asarray(result)
    start = address(host)
    for source in sources:
        if host is source._host:
            return source
        memory = source._memory
        if memory.ptr <= start < memory.ptr + memory.nbytes:
            return _wrap(host, memory, source)
    for source in sources:
        check_device(source._memory)
    return new(host)
