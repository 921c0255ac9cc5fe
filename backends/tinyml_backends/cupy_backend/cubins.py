"""Compiled kernels as files, which ``cupy.RawModule`` loads and later processes reuse."""

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

#: A kernel's lowered (mangled) name in the compiled code, and the code.
Compiled = tuple[str, bytes]


def cupy_folder() -> Path | None:
    """Return CuPy's folder of kernels; None where it keeps none, or none can be written.

    Where the user has no home directory, or the folder cannot be written, CuPy could not compile
    its own kernels either. It is then told by ``CUPY_CACHE_IN_MEMORY`` to keep them in memory.
    """
    if os.environ.get("CUPY_CACHE_IN_MEMORY", "0").strip() not in ("", "0"):
        return None
    try:
        folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy/kernel_cache")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
        return None


class Cubins:
    """A cache of compiled kernels: for each a cubin file, and a text file with its lowered name.

    Parameters
    ----------
    folder : Path or None
        Where to store them. With None, or if it cannot be written, they are stored in a temporary
        folder, and the next process compiles them again.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: tuple[str, ...], compile_it: Callable[[], Compiled]) -> tuple[Path, str]:
        """Return a kernel's file and lowered name; compile it if no intact file has this key."""
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:40]
        file = f"tinyml-{digest}.cubin"
        if self._folder is not None:
            with contextlib.suppress(OSError, ValueError):
                return _checked(self._folder / file)
        compiled = compile_it()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                return _written(self._folder / file, *compiled)
        return _written(_temporary() / file, *compiled)


@cache
def _temporary() -> Path:
    """The temporary folder, which is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="tinyml-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _checked(path: Path) -> tuple[Path, str]:
    """Path and lowered name; OSError or ValueError if a file is missing or damaged."""
    name, checksum = path.with_suffix(".name").read_text("ascii").split("\n")
    if checksum != _checksum(name, path.read_bytes()):
        raise ValueError(f"{path} is damaged")
    return path, name


def _written(path: Path, name: str, cubin: bytes) -> tuple[Path, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{name}\n{_checksum(name, cubin)}".encode("ascii")
    for target, data in ((path, cubin), (path.with_suffix(".name"), text)):
        # Renaming is atomic: other threads and processes see a whole file or none.
        unfinished = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(target)
        finally:  # on a full disk a part may have been written
            unfinished.unlink(missing_ok=True)
    return path, name


def _checksum(name: str, cubin: bytes) -> str:
    return hashlib.sha256(name.encode() + b"\n" + cubin).hexdigest()
