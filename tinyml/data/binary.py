"""Readers of binary files of images: idx, the format of MNIST, and CIFAR-10."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Dtypes of idx files by their number.
_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
#: Deflate makes data at most so many times smaller.
_MOST_COMPRESSED = 1032
#: Bytes of an image of CIFAR-10 with its label.
_RECORD = 1 + 3 * 32 * 32


def read_idx(path: str | Path) -> NDArray[Any]:
    """Array of an idx file, also a compressed one (``.gz``).

    The format is described by LeCun, Cortes and Burges on the page of "The MNIST database of
    handwritten digits".

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    array
        In the machine's byte order.

    Raises
    ------
    ValueError
        If it is no idx file, or its length is not what its header says.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tinyml.data import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "two.idx")
    ...     size = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
    ...     read_idx(path)
    array([5, 7], dtype=uint8)
    """
    path = Path(path)
    size = path.stat().st_size
    is_compressed = path.suffix == ".gz"
    try:
        with gzip.open(path) if is_compressed else path.open("rb") as file:
            magic = file.read(4)
            dtype = np.dtype(_IDX.get(magic[2], "V")) if len(magic) == 4 else np.dtype("V")
            if magic[:2] != b"\0\0" or dtype.kind == "V" or not 1 <= magic[3] <= 4:
                raise ValueError(f"{path} is no idx file")
            header = file.read(4 * magic[3])
            shape = [int(n) for n in np.frombuffer(header[: len(header) // 4 * 4], ">u4")]
            wanted = dtype.itemsize * int(np.prod(shape, dtype=object)) if shape else 0
            if len(shape) < magic[3] or wanted > size * (_MOST_COMPRESSED if is_compressed else 1):
                raise ValueError(f"{path} has a header of shape {shape}, but not that much data")
            data = file.read(wanted + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be decompressed: {error}") from error
    if len(data) != wanted:
        more = "more" if len(data) > wanted else "less"
        raise ValueError(f"{path} has {more} data than its header says, which is of shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_cifar10(*paths: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (samples, 3, 32, 32) and labels 0 to 9 of CIFAR-10's binary files.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Parameters
    ----------
    *paths : str or Path
        For example ``data_batch_1.bin`` to ``data_batch_5.bin``.

    Raises
    ------
    ValueError
        If a file does not consist of records of 3073 bytes, or a label is above 9.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tinyml.data import read_cifar10
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "batch.bin")
    ...     size = path.write_bytes(bytes([7, *range(256)] + [0] * 2816))
    ...     images, labels = read_cifar10(path)
    >>> images.shape, labels, images[0, 0, 0, :4]
    ((1, 3, 32, 32), array([7], dtype=uint8), array([0, 1, 2, 3], dtype=uint8))
    """
    if not paths:
        raise ValueError("paths are missing; give one file or more")
    records = []
    for path in paths:
        data = np.fromfile(path, np.uint8)
        if len(data) % _RECORD or not len(data):
            raise ValueError(
                f"{path} has {len(data)} bytes; a file of CIFAR-10 has {_RECORD} for each image"
            )
        records.append(data.reshape(-1, _RECORD))
        if records[-1][:, 0].max() > 9:
            raise ValueError(f"{path} has the label {records[-1][:, 0].max()}; it must be 0 to 9")
    joined = np.concatenate(records)
    return joined[:, 1:].reshape(-1, 3, 32, 32), joined[:, 0].copy()
