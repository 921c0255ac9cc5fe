"""Numba as this backend uses it: without the GIL, cached on disk, with plain memory access.

``parallel=True`` is not used: its threads do not survive a fork, and its workqueue aborts when two
threads enter it. Kernels take a range of items instead, and `crew` shares the ranges out.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import caching
from numba.extending import intrinsic

#: Bytes of one cache line, and of one `stream`.
LINE = 64
#: Bytes by which cells are asked for in advance: the processor does not guess that a row follows.
AHEAD = 5 << 10


def _stamp() -> bytes:
    """Digest of this folder's sources: Numba's own covers one file, not those it calls into."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()


_STAMP = _stamp()


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._locator.get_source_stamp = lambda: _STAMP


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, which never fails a call.

    Two processes that save at once may give the name of one kernel to the other, so that what is
    loaded is compared with what was asked for.
    """

    _impl_class = _Implementation

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        """Key without the function's closure, whose bytes differ from process to process."""
        return signature, codegen.magic_tuple()

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            found = super().load_overload(signature, context)
        except Exception:  # a damaged file fails in ways of its own
            with suppress(OSError):
                self.flush()
            return None
        wanted = getattr(signature, "args", signature)
        return found if found is not None and found.signature.args == wanted else None

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # a full or a read-only disk
            super().save_overload(signature, data)


def compiled(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """Compile ``function`` for each combination of argument types when first called with it.

    The machine code is kept in ``NUMBA_CACHE_DIR``, beside the source, or in the user's cache
    folder, whichever can be written first; without any, each process compiles its own.
    """
    dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
    with suppress(RuntimeError, OSError):
        dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, for what kernels call in their innermost loops."""
    return compiled(function, forceinline=True)


def element(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to an element of a contiguous array of Numba's type ``kind``."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


def _at(_: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(element(context, builder, signature.args[0], *arguments))

    return array.dtype(array, types.intp), generate


def _put(_: Any, array: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], element(context, builder, signature.args[0], *arguments[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


def _stream(_: Any, target: Any, source: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.VectorType(ir.IntType(32), LINE // 4)
        to, of = (builder.inttoptr(address, line.as_pointer()) for address in arguments)
        stored = builder.store(builder.load(of, align=4), to, align=LINE)
        temporal = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        stored.set_metadata("nontemporal", temporal)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), generate


def prefetch(builder: Any, element: Any, ahead: Any) -> None:
    """Ask for the cache line so many bytes behind an element."""
    byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    place = builder.gep(builder.bitcast(element, byte), [ahead])
    builder.call(function, [place, integer(0), integer(3), integer(1)])


#: ``at(array, i)`` is ``array[i]`` and ``put(array, i, value)`` is ``array[i] = value`` for a
#: contiguous one-dimensional array and ``0 <= i < len(array)``. Unlike Numba's own they do not ask
#: whether ``i`` is negative, which keeps loops from being vectorised.
at, put = intrinsic(_at), intrinsic(_put)

#: ``stream(to, of)`` copies one cache line between addresses, past the cache: a line that is
#: written whole and not read soon need not be fetched first. ``to`` is a multiple of `LINE`.
stream = intrinsic(_stream)
