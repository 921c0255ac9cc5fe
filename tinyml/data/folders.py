"""Folders of images: a folder for each class, or images and their masks."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.data.pairs import (
    SUFFIXES,
    MissingPackageError,
    Pixels,
    read_image,
    read_labels,
    resized,
)

#: Most files that an error names.
_NAMED = 10


@dataclass(frozen=True)
class ImageClasses:
    """Images with a class each.

    Attributes
    ----------
    images : array, (samples, channels, height, width)
    labels : array of int64, (samples,)
    classes : tuple of str
        Names of the classes.
    files : tuple of Path
        File of each image.
    skipped : tuple of str
        What was wrong with the files that are left out.
    """

    images: Pixels
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Annotated:
    """An image with a class for each pixel.

    Attributes
    ----------
    image : array, (channels, height, width)
    mask : array of int64, (height, width)
    """

    image: Pixels
    mask: NDArray[np.int64]


@dataclass(frozen=True)
class ImageMasks:
    """Images with a class for each pixel.

    Attributes
    ----------
    pairs : tuple of Annotated
        All images have the same channels and dtype; the sizes may differ.
    classes : tuple of str
    skipped : tuple of str
        What was wrong with the files that are left out.
    """

    pairs: tuple[Annotated, ...]
    classes: tuple[str, ...]
    skipped: tuple[str, ...]


def read_classes(
    folder: str | Path, *, size: tuple[int, int] | None = None, skip_bad: bool = False
) -> ImageClasses:
    """Read a folder that has a folder of images for each class.

    Parameters
    ----------
    folder : str or Path
        The names of the folders in it, in alphabetical order, are the classes. Their images are
        PNG, TIFF, JPEG, BMP, npy or npz; other files do not count.
    size : (int, int), optional
        Height and width that images are resized to; otherwise all must have one size.
    skip_bad : bool
        Whether to leave out files that cannot be read.

    Raises
    ------
    ValueError
        If there is no image, a class has only one, a file cannot be read, or images differ in
        channels, dtype or size.
    OSError
        If the folder cannot be read.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tinyml.data import read_classes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         pathlib.Path(folder, name).mkdir()
    ...         for number in range(2):
    ...             np.save(pathlib.Path(folder, name, f"{number}.npy"), np.zeros((8, 8), np.uint8))
    ...     data = read_classes(folder)
    >>> data.images.shape, data.labels, data.classes
    ((4, 1, 8, 8), array([0, 0, 1, 1]), ('cat', 'dog'))
    """
    folder = Path(folder)
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    listed = {inside.name: _images(inside) for inside in folders}
    listed = {name: files for name, files in listed.items() if files}
    if not listed:
        raise ValueError(
            f"{folder} has no images; it must have a folder for each class, with images in it"
        )
    images, labels, files, bad = [], [], [], _Bad(skip_bad)
    for label, name in enumerate(listed):
        for file in listed[name]:
            image = bad.unless(read_image, file)
            if image is not None:
                images.append(image if size is None else resized(image, size))
                labels.append(label)
                files.append(file)
    bad.check()
    counts = Counter(labels)
    for label, name in enumerate(listed):
        if counts[label] < 2:
            raise ValueError(
                f"class {name!r} in {folder} has {counts[label]} image that can be read; it must "
                "have 2 or more, one of them to hold out"
            )
    if len(listed) < 2:
        raise ValueError(f"{folder} has one class, {next(iter(listed))!r}; it must have 2 or more")
    _check_alike(images, files)
    _check_size(images, files)
    return ImageClasses(
        np.stack(images),
        np.array(labels, np.int64),
        tuple(listed),
        tuple(files),
        tuple(bad.reasons),
    )


def read_masks(
    folder: str | Path, *, classes: Iterable[str] | None = None, skip_bad: bool = False
) -> ImageMasks:
    """Read a folder that has the folders ``images`` and ``masks``, with files of the same names.

    Parameters
    ----------
    folder : str or Path
        The file of an image and that of its mask may have different endings.
    classes : iterable of str, optional
        Names of the values 0, 1, … of the masks; the first is the background. By default, masks of
        0 and one other value have the classes "background" and "foreground", and others are named
        by their numbers.
    skip_bad : bool
        Whether to leave out pairs of which a file cannot be read.

    Raises
    ------
    ValueError
        If there is no image, an image has no mask or another size than its mask, a mask has no
        image or more values than there are classes, a file cannot be read, or images differ in
        channels or dtype.
    OSError
        If a folder cannot be read.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tinyml.data import read_masks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("images", "masks"):
    ...         pathlib.Path(folder, name).mkdir()
    ...         np.save(pathlib.Path(folder, name, "a.npy"), np.eye(8, dtype=np.uint8))
    ...     data = read_masks(folder)
    >>> data.pairs[0].mask.sum(), data.classes
    (np.int64(8), ('background', 'foreground'))
    """
    folder = Path(folder)
    found = [_by_stem(folder / name) for name in ("images", "masks")]
    for one, other, files in (("image", "mask", found), ("mask", "image", found[::-1])):
        for stem in sorted(files[0].keys() - files[1].keys()):
            raise ValueError(
                f"{one} {files[0][stem]} has no {other}; there must be one of the same name in "
                f"{folder / (other + 's')}"
            )
    bad = _Bad(skip_bad)
    read: list[tuple[Path, Pixels, NDArray[np.int64]]] = []
    for stem in sorted(found[0]):
        pair = bad.unless(_pair, found[0][stem], found[1][stem])
        if pair is not None:
            read.append((found[0][stem], *pair))
    bad.check()
    if not read:
        raise ValueError(f"{folder} has no image and mask that can be read")
    _check_alike([image for _, image, _ in read], [file for file, _, _ in read])
    values = np.unique(np.concatenate([np.unique(mask) for _, _, mask in read]))
    names = None if classes is None else tuple(classes)
    is_binary = len(values) == 2 and values[0] == 0 and names is None
    if names is None:
        names = ("background", "foreground")
        if not is_binary:
            names = tuple(map(str, range(int(values.max()) + 1)))
    pairs = []
    for file, image, mask in read:
        mask = (mask > 0).astype(np.int64) if is_binary else mask
        if mask.min() < 0 or mask.max() >= min(len(names), 256):
            worst = int(mask.max()) if mask.min() >= 0 else int(mask.min())
            raise ValueError(
                f"the mask of {file} has the value {worst}; with {len(names)} classes values must "
                f"be 0 to {min(len(names), 256) - 1}"
            )
        pairs.append(Annotated(image, mask))
    return ImageMasks(tuple(pairs), names, tuple(bad.reasons))


def _pair(image_file: Path, mask_file: Path) -> tuple[Pixels, NDArray[np.int64]]:
    image, mask = read_image(image_file), read_labels(mask_file)
    if image.shape[1:] != mask.shape:
        raise ValueError(
            f"image {image_file} has {image.shape[1]}×{image.shape[2]} pixels and mask {mask_file} "
            f"{mask.shape[0]}×{mask.shape[1]}; they must have the same size"
        )
    return image, mask


def _images(folder: Path) -> list[Path]:
    """Image files of a folder by name; hidden files do not count."""
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; a folder of images and masks has both")
    files = _images(folder)
    if not files:
        raise ValueError(f"{folder} has no images")
    twice = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"{folder} has several files named {twice[0]}; leave one of them")
    return {file.stem: file for file in files}


class _Bad:
    """Files that cannot be read: their number, their names and the reasons."""

    def __init__(self, skip_bad: bool) -> None:
        self.skip_bad, self.names, self.reasons = skip_bad, list[str](), list[str]()

    def unless(self, read: Any, *files: Path) -> Any:
        """What ``read`` returns, or None if a file is bad, which is then noted."""
        try:
            return read(*files)
        except MissingPackageError:  # the others could not be read either
            raise
        except ValueError as error:
            self.names.append(files[0].name)
            self.reasons.append(str(error))
            return None

    def check(self) -> None:
        """Raise ValueError if there are bad files, unless they are to be left out."""
        if self.skip_bad or not self.reasons:
            return
        more = len(self.names) - _NAMED
        named = ", ".join(self.names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        one = len(self.names) == 1
        which = "" if one else f"; {len(self.names)} files cannot be used: {named}"
        raise ValueError(self.reasons[0] + which)


def _check_alike(images: list[Pixels], files: list[Path]) -> None:
    """Raise ValueError if images differ in channels or dtype."""
    for what, of in (("channels", lambda i: len(i)), ("dtype", lambda i: i.dtype)):
        first = of(images[0])
        for image, file in zip(images, files, strict=True):
            if of(image) != first:
                raise ValueError(
                    f"{file} has {what} {of(image)}, and {files[0]} {first}; all images must be "
                    "alike"
                )


def _check_size(images: list[Pixels], files: list[Path]) -> None:
    for image, file in _others(images, files):
        height, width = image.shape[1:]
        raise ValueError(
            f"{file} has {height}×{width} pixels, and {files[0]} {images[0].shape[1]}×"
            f"{images[0].shape[2]}; give a size that all are resized to"
        )


def _others(images: list[Pixels], files: list[Path]) -> Iterator[tuple[Pixels, Path]]:
    """Images that have another size than the first."""
    return (
        (image, file)
        for image, file in zip(images, files, strict=True)
        if image.shape != images[0].shape
    )
