"""Compiled kernels on disk, so that a process need not compile what an earlier one has."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

#: A kernel's name in the compiled code, and the code.
Compiled = tuple[str, bytes]


class Cubins:
    """A folder of compiled kernels; one that cannot be written is done without.

    Parameters
    ----------
    folder : Path or None
        None means CuPy's own: ``CUPY_CACHE_DIR``, else ``~/.cupy/kernel_cache``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def get(self, key: tuple[str, ...], compile_it: Callable[[], Compiled]) -> Compiled:
        """What was compiled under a key that says all it depends on."""
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()
        path = self._path() / f"tinyml-{digest[:40]}.cubin"
        with contextlib.suppress(OSError, ValueError):
            check, name, cubin = path.read_bytes().split(b"\n", 2)
            if check == _check_of(name, cubin):  # whole, and what was written
                return name.decode(), cubin
        name_, cubin = compile_it()
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.tmp")  # another process may write too
            name = name_.encode()
            unfinished.write_bytes(b"\n".join((_check_of(name, cubin), name, cubin)))
            unfinished.replace(path)
        return name_, cubin

    def _path(self) -> Path:
        if self._folder is not None:
            return self._folder
        return Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy/kernel_cache")


def _check_of(name: bytes, cubin: bytes) -> bytes:
    return hashlib.sha256(name + b"\n" + cubin).hexdigest().encode()
