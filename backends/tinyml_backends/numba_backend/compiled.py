"""How this backend uses Numba: without the GIL, with a disk cache, and with generated LLVM code.

``parallel=True`` is not used: Numba's threads do not survive a fork, and its threading layer
``workqueue`` aborts the process if two threads use it at once. Instead, a kernel takes a range of
items, and its caller runs chunks of the items in threads.
"""

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple

from numba import njit, types
from numba.core import caching
from numba.extending import intrinsic


def _stamp() -> bytes:
    """Digest of all sources in this folder: Numba's own stamp covers only a kernel's own file."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()


_STAMP = _stamp()


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._locator.get_source_stamp = lambda: _STAMP

    def check_cachable(self, result: Any) -> bool:
        """Whether a kernel can be saved; no warning if ``NUMBA_OPT=0`` forbids it."""
        return not (result.lifted or result.library.has_dynamic_globals)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, except that a file that cannot be read or written is not an error.

    If two processes save at once, the file of one kernel may hold the code of another. So the
    signature of the loaded kernel is compared with the one that was requested.
    """

    _impl_class = _Implementation

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        """Key without the function's closure, whose bytes differ from process to process."""
        return signature, codegen.magic_tuple()

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            found = super().load_overload(signature, context)
        except Exception:  # a damaged file may raise anything
            with suppress(OSError):
                self.flush()
            return None
        wanted = getattr(signature, "args", signature)
        if found is not None and found.signature.args == wanted:
            return found
        _say_once()
        return None

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # a full or a read-only disk
            super().save_overload(signature, data)


class _NoCache(caching.NullCache):  # type: ignore[misc]
    def load_overload(self, signature: Any, context: Any) -> None:
        _say_once()


@cache
def _say_once() -> None:
    """Tell a user who waits that kernels are compiled."""
    if sys.stderr and sys.stderr.isatty():
        print("tinyml: Numba compiles kernels, which takes seconds", file=sys.stderr)


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile ``function`` for each combination of argument types when first called with it.

    The machine code is cached in ``NUMBA_CACHE_DIR``, beside the source, or in the user's cache
    folder: the first of these that can be written. If none can, each process compiles again.
    """
    dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):
        dispatcher._cache = _NoCache()
    return dispatcher  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `compiled`, for functions that kernels call in their innermost loops."""
    return compiled(function, forceinline=True)


class Code(NamedTuple):
    """The LLVM builder of an instruction, and the Numba types of the instruction's arguments."""

    context: Any
    builder: Any
    types: tuple[Any, ...]

    def pointer(self, argument: int, array: Any, index: Any, inbounds: bool = True) -> Any:
        """Pointer to an element of a contiguous array, which is argument number ``argument``."""
        kind = self.types[argument]
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        return self.builder.gep(data, [index], inbounds=inbounds)


def instruction(signature: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that generates LLVM code, so that kernels can call it.

    ``signature`` gives Numba's signature for the types of the arguments. The decorated function
    takes a `Code` and the LLVM values of the arguments, and returns the value of the result.
    """

    def decorate(generate: Callable[..., Any]) -> Any:
        @wraps(generate)  # Numba binds a call's arguments to the parameters of `generate`
        def typed(_: Any, *kinds: Any) -> Any:
            def lower(context: Any, builder: Any, signed: Any, values: Any) -> Any:
                result = generate(Code(context, builder, signed.args), *values)
                return context.get_dummy_value() if result is None else result

            return signature(*kinds), lower

        return intrinsic(typed)

    return decorate


# Unlike Numba's own indexing, `at` and `put` do not handle negative indices: the test for them
# keeps loops from being vectorised.


@instruction(lambda array, index: array.dtype(array, types.intp))
def at(code: Code, array: Any, index: Any) -> Any:
    """``array[index]`` for a contiguous 1-D array and ``0 <= index < len(array)``."""
    return code.builder.load(code.pointer(0, array, index))


@instruction(lambda array, index, value: types.void(array, types.intp, array.dtype))
def put(code: Code, array: Any, index: Any, value: Any) -> None:
    """``array[index] = value`` for a contiguous 1-D array and ``0 <= index < len(array)``."""
    code.builder.store(value, code.pointer(0, array, index))
