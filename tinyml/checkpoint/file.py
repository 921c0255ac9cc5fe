"""Files of the safetensors format: written whole or not at all, and checked when they are read."""

import errno
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

#: Bytes that a header may take when it is parsed, besides as many as the file has, and what its
#: values take at most, and its characters: more if one of them is not ASCII.
_MEMORY = 14 << 20
_VALUE, _ASCII, _OTHER = 100, 6, 16
#: Kinds of values that the format and NumPy have.
_DTYPES = (
    *("float64", "float32", "float16", "complex64", "bool"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
)
#: Name in the header that is no tensor's.
_METADATA = "__metadata__"

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
        If the configuration holds what JSON cannot or is too large, or a tensor what a file cannot.
    OSError
        If it cannot be written; a file that was there is then unchanged.
    """
    from safetensors.numpy import save

    text = json.dumps({name: _checked(name, value) for name, value in described.items()})
    arrays = {name: _copied(name, tensor) for name, tensor in tensors.items()}
    data = save(arrays, {CONFIGURATION: text, CHECKSUM: _checksum(text, arrays)})
    _check_header(data)  # or it could not be read
    _replace(path, data)


def _checked(name: str, value: Any) -> Any:
    """A value, if JSON can hold it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} must be what JSON can hold: {error}") from None
    return value


def _copied(name: str, tensor: Array) -> "np.ndarray[Any, Any]":
    """A tensor as it is now: another thread may change it before it is written."""
    if name == _METADATA or any("\ud800" <= sign <= "\udfff" for sign in name):
        raise CheckpointError(f"a tensor is named {name!r}, which a file cannot hold; rename it")
    array = owner_of(tensor).to_numpy(tensor)
    if array.dtype.name not in _DTYPES:
        raise CheckpointError(
            f"tensor {name!r} has dtype {array.dtype}; it must be one of {', '.join(_DTYPES)}"
        )
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def _replace(path: Path, data: bytes) -> None:
    """Write to a file beside ``path``, and rename it when all of it is on the disk."""
    path = Path(os.path.realpath(path))  # the file that a link leads to, not the link
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is a folder or a device, not a file", str(path))
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            if path.exists():
                os.chmod(temporary, path.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename2 is None:
            error.filename = str(path)
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
        size, header = len(data), _check_header(data)
        tensors = _tensors(data)
        del data  # the header takes memory too when it is parsed
        metadata = json.loads(header).get(_METADATA, {})
        if CONFIGURATION not in metadata:
            return Contents(None, tensors)
        text = metadata[CONFIGURATION]
        _check_size(text.encode(), size)
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


def _check_header(data: bytes) -> bytes:
    """The header; CheckpointError if there is none, or one that takes too much memory."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > len(data) - 8:
        raise CheckpointError("it is no safetensors file, or is cut off")
    header = data[8 : 8 + length]
    _check_size(header, len(data))
    return header


def _check_size(text: bytes, size: int) -> None:
    """Raise CheckpointError if JSON would take too much memory for a file of this size."""
    values = sum(map(text.count, (b",", b"[", b"{", b":")))
    is_ascii = text.isascii() and b"\\u" not in text
    memory = values * _VALUE + len(text) * (_ASCII if is_ascii else _OTHER)
    if memory > _MEMORY + size:
        raise CheckpointError(
            f"its header has {values} entries in {len(text)} bytes, too many for a file of {size}"
        )


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
