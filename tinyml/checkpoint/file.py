"""Files of the safetensors format: written whole or not at all, and checked when they are read."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyml_backends import CheckpointError, owner_of
from tinyml_backends.arrays import Array

#: Version of the configuration; files of later ones are refused.
FORMAT = 1
#: Keys of the metadata: the configuration, and the SHA-256 of it and of all tensors.
CONFIGURATION, CHECKSUM = "tinyml", "tinyml.sha256"

#: Values of JSON that a header may have, besides one for every hundred bytes of the file. Each
#: takes some hundred bytes of memory when it is parsed.
_VALUES = 40_000

Tensors = dict[str, "np.ndarray[Any, Any]"]


class Contents(NamedTuple):
    """What a file holds."""

    described: dict[str, Any] | None
    """Configuration; None if the file is not tinyml's."""
    tensors: Tensors


def write(path: Path, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Replace a file by a new one, in one step.

    Raises
    ------
    CheckpointError
        If the configuration holds what JSON cannot.
    OSError
        If it cannot be written; a file that was there is then unchanged.
    """
    from safetensors.numpy import save

    try:
        text = json.dumps(described)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"info is {described.get('info')!r}; it must be what JSON can hold: {error}"
        ) from None
    arrays = {name: _contiguous(owner_of(t).to_numpy(t)) for name, t in tensors.items()}
    checksum = _checksum(text, arrays)
    _replace(path, save(arrays, {CONFIGURATION: text, CHECKSUM: checksum}))


def _contiguous(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _replace(path: Path, data: bytes) -> None:
    """Write to a file beside ``path``, and rename it when all of it is on the disk."""
    path = Path(os.path.realpath(path))  # the file that a link leads to, not the link
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            if path.exists():
                os.chmod(temporary, path.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> Contents:
    """Read and check a file.

    Raises
    ------
    CheckpointError
        If it is no safetensors file, is damaged, or is of a newer format.
    OSError
        If it cannot be read.
    """
    data = path.read_bytes()
    with errors_of(path):
        _check_header(data)
        tensors = _tensors(data)
        metadata = json.loads(_header(data)).get("__metadata__", {})
        if CONFIGURATION not in metadata:
            return Contents(None, tensors)
        text = metadata[CONFIGURATION]
        _check_size(text, len(data))
        described = json.loads(text)
        version = described.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise CheckpointError(
                f"it has format {version}, and this version of tinyml reads up to {FORMAT}; "
                "install a newer one"
            )
        if metadata.get(CHECKSUM) != _checksum(text, tensors):
            raise CheckpointError("it is damaged: its checksum is not that of its contents")
        return Contents(described, tensors)


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Context whose errors are those of a file that cannot be loaded."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error.__cause__
    except Exception as error:  # of a constructor, of JSON, or of a configuration's structure
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path} cannot be loaded, it is not valid: {reason}") from error


def _check_header(data: bytes) -> None:
    """Raise CheckpointError before a header is parsed that is none, or takes too much memory."""
    if (
        len(data) < 8
        or not data[8:9] == b"{"
        or len(_header(data)) < int.from_bytes(data[:8], "little")
    ):
        raise CheckpointError("it is no safetensors file, or is cut off")
    _check_size(_header(data), len(data))


def _header(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _check_size(text: bytes | str, size: int) -> None:
    if isinstance(text, str):
        values = sum(map(text.count, ",[{:"))
    else:
        values = sum(map(text.count, (b",", b"[", b"{", b":")))
    if values > _VALUES + size // 100:
        raise CheckpointError(f"it is not valid: its header has {values} entries")


def _tensors(data: bytes) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"it is no valid safetensors file: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"it has tensors of dtype {error}, which NumPy lacks") from None


def _checksum(text: str, tensors: Mapping[str, "np.ndarray[Any, Any]"]) -> str:
    """SHA-256 of the configuration and of every tensor's name, dtype, shape and data."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
