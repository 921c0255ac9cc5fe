"""A user's own image and mask, from PNG, TIFF or npz files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Read = Callable[[Path, str], NDArray[Any]]


def read_pair(image_file: Path, mask_file: Path) -> tuple[NDArray[Any], NDArray[np.bool]]:
    """Image and foreground from two files.

    Parameters
    ----------
    image_file, mask_file : Path
        ``.png``, ``.tif``, ``.tiff`` or ``.npz``; grey or RGB, uint8 or uint16. An npz file holds
        one array, or one named "image" or "mask". Needs the ``demo`` extra.

    Returns
    -------
    image : uint8 or uint16 array, (channels, height, width)
        One channel or three; an alpha channel is left out.
    mask : bool array, (height, width)
        True where the mask is not 0 in some channel.

    Raises
    ------
    ValueError
        If a file cannot be read, holds something else, or the two differ in size.
    """
    image = _read(image_file, "image")
    mask: NDArray[np.bool] = np.any(_read(mask_file, "mask"), axis=0)
    if image.shape[1:] != mask.shape:
        raise ValueError(
            f"image {image_file} has {image.shape[1]}×{image.shape[2]} pixels and mask {mask_file} "
            f"{mask.shape[0]}×{mask.shape[1]}; they must have the same size"
        )
    return image, mask


def _read(file: Path, role: str) -> NDArray[Any]:
    """Array (channels, height, width) of a file."""
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{role} {file} is none of {', '.join(_READERS)}")
    try:
        array = np.asarray(reader(file, role))
    except OSError as error:
        raise ValueError(f"{role} {file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each decoder raises errors of its own types for an invalid file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{role} {file} cannot be read: {reason}") from error
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="))
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] > 4 or 0 in array.shape:
        raise ValueError(
            f"{role} {file} has shape {array.shape}; it must be one grey or RGB picture"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{role} {file} has dtype {array.dtype}; it must be uint8 or uint16")
    colours = 3 if array.shape[2] >= 3 else 1  # the second channel of 2 or the fourth of 4 is alpha
    return np.ascontiguousarray(np.moveaxis(array[..., :colours], 2, 0))


def _png(file: Path, role: str) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(file.read_bytes()))


def _tiff(file: Path, role: str) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        if len(tiff.pages) != 1:
            raise ValueError(f"it has {len(tiff.pages)} pages; save the one you want as a file")
        page = tiff.pages[0]
        if page.photometric.name not in ("MINISBLACK", "RGB"):
            raise ValueError(f"its pixels are {page.photometric.name}; save it as grey or RGB")
        array = np.asarray(page.asarray())
        return np.moveaxis(array, 0, 2) if page.axes.startswith("S") else array


def _npz(file: Path, role: str) -> NDArray[Any]:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("it is no npz archive")
    with archive:
        names = list(archive)
        name = names[0] if len(names) == 1 else role
        if name not in names:
            raise ValueError(f"it holds {', '.join(names) or 'nothing'}, no array named {role!r}")
        return np.asarray(archive[name])


_READERS: dict[str, Read] = {".png": _png, ".tif": _tiff, ".tiff": _tiff, ".npz": _npz}
