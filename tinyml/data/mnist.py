"""MNIST, downloaded when it is asked for."""

import errno
import hashlib
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyml.data.binary import read_idx
from tinyml.progress import Progress
from tinyml_backends.errors import DownloadError

#: The copy that TensorFlow Datasets uses, and its sizes and SHA-256 of the files (version 4.9,
#: tensorflow_datasets/url_checksums/mnist.txt).
URL = "https://storage.googleapis.com/cvdf-datasets/mnist"
FILES = {
    "train-images-idx3-ubyte.gz": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
#: Seconds without an answer after which a download fails.
TIMEOUT = 30
_PIECE = 1 << 16


class Mnist(NamedTuple):
    """70,000 handwritten digits of 28×28 pixels."""

    train_images: NDArray[np.uint8]
    """(60000, 28, 28)."""
    train_labels: NDArray[np.uint8]
    """(60000,)."""
    test_images: NDArray[np.uint8]
    """(10000, 28, 28)."""
    test_labels: NDArray[np.uint8]
    """(10000,)."""


def fetch_mnist(folder: str | Path | None = None, *, url: str = URL) -> Mnist:
    """MNIST (LeCun, Cortes and Burges); the first call downloads 12 MB.

    A download that was interrupted goes on where it stopped. The SHA-256 of every file is checked,
    also of those that are there already.

    Parameters
    ----------
    folder : str or Path, optional
        Where the files are kept; by default the user's folder for caches.
    url : str
        Folder with the four files.

    Raises
    ------
    DownloadError
        If a file cannot be downloaded, or is not the right one. It is an OSError.

    Examples
    --------
    >>> from tinyml.data import fetch_mnist
    >>> mnist = fetch_mnist()  # doctest: +SKIP
    >>> mnist.train_images.shape  # doctest: +SKIP
    (60000, 28, 28)
    """
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_path("tinyml") / "mnist"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: list[Any] = []
    for name, (size, digest) in FILES.items():
        path = folder / name
        if not path.exists() or _sha256(path) != digest:
            _download(f"{url}/{name}", path, size, digest)
        arrays.append(read_idx(path))
    return Mnist(*arrays)


#: Errors of a disk, not of a connection.
_DISK = (errno.ENOSPC, errno.EDQUOT)


def _download(url: str, path: Path, size: int, digest: str) -> None:
    """Download a file to a part of it beside ``path``, and rename that when it is the right one."""
    part = path.with_name(f"{path.name}.part")
    done = part.stat().st_size if part.exists() else 0
    if done >= size:  # the process may have ended before the part was renamed
        if _sha256(part) == digest:
            part.replace(path)
            return
        part.unlink()
        done = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:  # all of it, from the beginning
                done = 0
            with (
                part.open("ab" if done else "wb") as file,
                Progress(
                    total=size, initial=done, desc=path.name, unit="B", unit_scale=True
                ) as bar,
            ):
                while piece := answer.read(_PIECE):
                    done += len(piece)
                    if done > size:
                        break
                    file.write(piece)
                    bar.update(len(piece))
    except (OSError, HTTPException) as error:
        if getattr(error, "code", None) == 416:  # the part is longer than the server's file
            part.unlink(missing_ok=True)
        if getattr(error, "errno", None) in _DISK or getattr(error, "filename", "") == str(part):
            raise DownloadError(
                f"{part} cannot be written: {getattr(error, 'strerror', error)}; free space or "
                "give another folder, and call again to go on"
            ) from error
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} cannot be downloaded: {reason}; check the connection and call again, or put "
            f"the file into {path.parent}"
        ) from error
    if done < size:
        raise DownloadError(f"{url} ended after {done} of {size} bytes; call again to go on")
    if done > size or _sha256(part) != digest:
        part.unlink()
        raise DownloadError(f"{url} is not the right file: its SHA-256 is not {digest}")
    part.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
