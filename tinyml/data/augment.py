"""Augmentation: images, and their masks alike, changed at random in every epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.core.number import Number
from tinyml_backends.arguments import IntPerAxis, boolean, integer, per_axis


class Augmented:
    """Data for `Learner.fit`: batches in random order whose images are changed at random.

    Each epoch draws anew, from a generator that ``fit`` seeds. A target with a value for each pixel
    (samples, height, width) is flipped, turned and cropped with its image.

    Parameters
    ----------
    x : array, (samples, channels, height, width)
        Floats; they are not changed themselves.
    y : array, (samples, …)
    batch_size : int
    flip : str
        "horizontal", "vertical", "both", or "" for neither.
    turns : bool
        Whether to turn by quarter turns. Batches hold images of one shape, so the images, or the
        crops, must be square.
    crop : int or (int, int), optional
        Height and width of a part that is cut out at a random place.
    pad : int
        Zeros around the images before they are cropped; the target has zeros there too.
    noise : float
        Standard deviation of normal noise that is added.
    brightness : float
        A number from −brightness to +brightness is added to all pixels of an image.

    Raises
    ------
    ValueError
        If the arrays do not fit, a crop is larger than the images, or images that are turned are
        not square.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.data import Augmented
    >>> x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    >>> data = Augmented(x, x[:, 0].astype(int), batch_size=2, flip="horizontal")
    >>> images, masks = next(data.epoch(np.random.default_rng(0)))
    >>> bool((images[:, 0] == masks).all()), images[0, 0]
    (True, array([[1., 0.],
           [3., 2.]], dtype=float32))
    """

    noise = Number(at_least=0)
    brightness = Number(at_least=0)

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        batch_size: int = 32,
        *,
        flip: str = "",
        turns: bool = False,
        crop: IntPerAxis | None = None,
        pad: int = 0,
        noise: float = 0.0,
        brightness: float = 0.0,
    ) -> None:
        if x.ndim != 4 or x.dtype.kind != "f":
            raise ValueError(
                f"x has shape {x.shape} and dtype {x.dtype}; it must hold floats, (samples, "
                "channels, height, width)"
            )
        if len(x) != len(y) or not len(x):
            raise ValueError(
                f"x has {len(x)} samples and y {len(y)}; they must have the same number"
            )
        if flip not in ("", "horizontal", "vertical", "both"):
            raise ValueError(f"flip is {flip!r}; it must be 'horizontal', 'vertical', 'both' or ''")
        self.x, self.y = x, y
        self.batch_size = integer("batch_size", batch_size, 1)
        self.flip = flip
        self.turns = boolean("turns", turns)
        self.pad = integer("pad", pad, 0)
        self.noise = noise
        self.brightness = brightness
        padded = tuple(n + 2 * self.pad for n in x.shape[2:])
        self.crop = padded if crop is None else per_axis("crop", crop, 2, 1)
        if any(part > whole for part, whole in zip(self.crop, padded, strict=True)):
            raise ValueError(
                f"crop is {self.crop}; the images have {padded} pixels with the padding"
            )
        if self.turns and self.crop[0] != self.crop[1]:
            raise ValueError(
                f"turns is True and images have {self.crop[0]}×{self.crop[1]} pixels; they must be "
                "square, for example by crop"
            )
        self._masks = y.shape[1:] == x.shape[2:]

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Batches of an epoch, which depend only on the data and on ``rng``."""
        order = rng.permutation(len(self.x))
        for start in range(0, len(order), self.batch_size):
            pairs = [self._changed(i, rng) for i in order[start : start + self.batch_size]]
            yield np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    def __length_hint__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def _changed(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """An image and its target."""
        rows, columns = (
            int(rng.integers(n + 2 * self.pad - part + 1))
            for n, part in zip(self.x.shape[2:], self.crop, strict=True)
        )
        flips = rng.integers(2, size=2).astype(bool) & (
            self.flip in ("vertical", "both"),
            self.flip in ("horizontal", "both"),
        )
        turns = int(rng.integers(4)) if self.turns else 0

        def moved(image: Any) -> Any:
            if self.pad:
                around = [(0, 0)] * (image.ndim - 2) + [(self.pad, self.pad)] * 2
                image = np.pad(image, around)
            image = image[..., rows : rows + self.crop[0], columns : columns + self.crop[1]]
            image = image[..., :: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
            return np.rot90(image, turns, axes=(-2, -1))

        x, y = moved(self.x[i]), self.y[i]
        if self.noise:
            x = x + np.float32(self.noise) * rng.standard_normal(x.shape, np.float32)
        if self.brightness:
            x = x + x.dtype.type(rng.uniform(-self.brightness, self.brightness))
        return x.astype(self.x.dtype, copy=False), moved(y) if self._masks else y
