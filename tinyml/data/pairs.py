"""A user's own image and mask, from image files and NumPy files."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]


class Pair(NamedTuple):
    """An image and its foreground."""

    image: Pixels
    """uint8 or uint16, (channels, height, width): one channel or three; alpha is left out."""
    mask: NDArray[np.bool]
    """(height, width), true where the mask is not 0 in some channel."""
    notes: tuple[str, ...]
    """What a user may not expect, one sentence each."""


class Picture(NamedTuple):
    """What a file holds."""

    pixels: Pixels
    """(height, width) or (height, width, samples)."""
    alpha: int = 0
    """How many of the last samples the file declares to be alpha."""
    orientation: int = 1
    """Exif's number of the position of the first row and column; others than 1 to 8 count as 1."""
    is_indices: bool = False
    """Whether the pixels are indices of a palette."""


Read = Callable[[Path, str], Picture]


def read_pair(image_file: Path, mask_file: Path) -> Pair:
    """Image and foreground from two files.

    Parameters
    ----------
    image_file, mask_file : Path
        PNG, TIFF, JPEG, BMP, npy or npz; the image grey or RGB, of uint8 or uint16. An npz file
        holds one array, or one named "image" or "mask". A mask may also be of bool, of any integers
        or of whole floats; of a palette image, its indices are the mask. A mask cannot be a JPEG.
        Needs the ``demo`` extra.

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        If a file cannot be read, holds something else, or the two differ in size.
    """
    image, _ = _read(image_file, "image")
    labels, notes = _read(mask_file, "mask")
    mask: NDArray[np.bool] = np.any(labels, axis=0)
    if image.shape[1:] != mask.shape:
        raise ValueError(
            f"image {image_file} has {image.shape[1]}×{image.shape[2]} pixels and mask {mask_file} "
            f"{mask.shape[0]}×{mask.shape[1]}; they must have the same size"
        )
    return Pair(image, mask, notes)


class MissingPackageError(ValueError):
    """No file of this format can be read, since a package is missing."""


def read_image(file: str | Path) -> Pixels:
    """Image (channels, height, width) of uint8 or uint16; the files are those of `read_pair`."""
    return _read(Path(file), "image")[0]


def read_labels(file: Path) -> NDArray[np.int64]:
    """Mask (height, width) of whole numbers; the files are those of `read_pair`.

    Raises
    ------
    ValueError
        If it cannot be read, or has several channels.
    """
    labels, _ = _read(file, "mask")
    if len(labels) != 1:
        raise ValueError(f"mask {file} has {len(labels)} channels; it must have one")
    mask: NDArray[np.int64] = labels[0].astype(np.int64)
    return mask


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Image (channels, height, width) of another height and width, by bilinear interpolation."""
    if image.shape[1:] == tuple(size):
        return image
    from PIL import Image

    height, width = size
    channels = [
        np.asarray(
            Image.fromarray(channel.astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for channel in image
    ]
    return np.stack(channels).round().astype(image.dtype)


def _read(file: Path, role: str) -> tuple[Pixels, tuple[str, ...]]:
    """Array (channels, height, width) of a file, upright, and notes."""
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{role} {file} is none of {', '.join(_READERS)}")
    if file.exists() and not file.is_file():  # opening a named pipe would wait forever
        raise ValueError(f"{role} {file} cannot be read: it is no regular file")
    try:
        picture = reader(file, role)
    except ImportError as error:
        raise MissingPackageError(
            f"{role} {file} needs {error.name or error}, which is not installed; in the clone of "
            "tinyml run: python3 -m pip install '.[demo]'"
        ) from error
    except OSError as error:
        raise ValueError(f"{role} {file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each decoder raises errors of its own types for an invalid file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{role} {file} cannot be read: {reason}") from error
    array = picture.pixels
    if array.ndim == 2:
        array = array[..., None]
    colours = array.shape[2] - picture.alpha if array.ndim == 3 else 0
    if colours not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"{role} {file} has shape {picture.pixels.shape}; it must be one picture, grey or with "
            "three samples a pixel, and a further one only if the file declares it as alpha"
        )
    array = _checked(f"{role} {file}", array[..., :colours], role)
    notes = (f"mask {file} has a palette: index 0 is the background",) if picture.is_indices else ()
    upright = np.moveaxis(_UPRIGHT.get(picture.orientation, _UPRIGHT[1])(array), 2, 0)
    return np.ascontiguousarray(upright), notes


def _checked(name: str, array: Pixels, role: str) -> Pixels:
    """The array in the machine's byte order, if its dtype and values are allowed."""
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8)
    if role == "mask" and kind in "iuf":
        whole = np.isfinite(array) & (array == np.trunc(array)) if kind == "f" else True
        if not np.all(whole):
            raise ValueError(
                f"{name} holds {array[~whole].flat[0]}; it must hold whole numbers, 0 in the "
                "background, so save for example mask > 0.5"
            )
        return array
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        must = "of integers" if role == "mask" else "uint8 or uint16; scale and convert it"
        raise ValueError(f"{name} has dtype {array.dtype}; it must be {must}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


#: For each orientation of Exif and TIFF: the array whose first row is on top, first column left.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def _pillow(file: Path, role: str) -> Picture:
    """PNG, JPEG and BMP; PNG with 16 bits a sample is decoded by imagecodecs, which keeps them."""
    import imagecodecs
    from PIL import Image

    with warnings.catch_warnings(), Image.open(file) as image:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        orientation = image.getexif().get(0x0112, 1)
        if role == "mask" and image.format == "JPEG":
            raise ValueError("JPEG changes the values of a mask; save it as PNG")
        if role == "mask" and image.mode == "P":
            return Picture(np.asarray(image), 0, orientation, is_indices=True)
        if image.format == "PNG":
            pixels = np.asarray(imagecodecs.png_decode(file.read_bytes()))
            samples = pixels.shape[2] if pixels.ndim == 3 else 1
            return Picture(pixels, int(samples in (2, 4)), orientation)
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode not in ("1", "L", "RGB"):
            raise ValueError(f"its pixels are {image.mode}; save it as grey or RGB")
        return Picture(np.asarray(image), 0, orientation)


def _tiff(file: Path, role: str) -> Picture:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        if len(tiff.pages) != 1:
            raise ValueError(f"it has {len(tiff.pages)} pages; save the one you want as a file")
        page = tiff.pages[0]
        kind = page.photometric.name
        is_indices = role == "mask" and kind == "PALETTE"
        if kind not in ("MINISBLACK", "RGB") and not is_indices:
            raise ValueError(f"its pixels are {kind}; save it as grey or RGB")
        extra = [getattr(sample, "name", str(sample)) for sample in page.extrasamples]
        undeclared = [name for name in extra if name not in ("ASSOCALPHA", "UNASSALPHA")]
        samples = page.samplesperpixel - (3 if kind == "RGB" else 1)
        if undeclared or len(extra) != samples or samples > 1:
            raise ValueError(
                f"it has {page.samplesperpixel} samples a pixel, {kind} and "
                f"{', '.join(undeclared) or 'undeclared ones'}; save it as grey or RGB"
            )
        array = np.asarray(page.asarray())
        array = np.moveaxis(array, 0, 2) if page.axes.startswith("S") else array
        tag = page.tags.get("Orientation")
        return Picture(array, samples, int(tag.value) if tag else 1, is_indices)


def _numpy(file: Path, role: str) -> Picture:
    """Array of an npy file, or of an npz archive."""
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        return Picture(archive)
    with archive:
        names = list(archive)
        name = names[0] if len(names) == 1 else role
        if name not in names:
            raise ValueError(f"it holds {', '.join(names) or 'nothing'}, no array named {role!r}")
        return Picture(np.asarray(archive[name]))


_READERS: dict[str, Read] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), _pillow),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    **dict.fromkeys((".npz", ".npy"), _numpy),
}

#: Endings of the files that can be read.
SUFFIXES = tuple(_READERS)
