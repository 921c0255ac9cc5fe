"""Dropout. The derivation is on the page docs/dropout.md."""

from typing import Any, NamedTuple

import numpy as np

from tinyml.arrays import check_shape
from tinyml.core.number import Number
from tinyml.layers.base import Layer
from tinyml_backends import backend_for
from tinyml_backends.arguments import generator
from tinyml_backends.arrays import Array, as_floats, quiet


class Saved(NamedTuple):
    """What ``forward`` saves for ``backward``."""

    kept: Array | None
    """Which elements were kept; None in eval mode."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


class Dropout(Layer):
    """Set elements to zero at random in training mode; in eval mode return the input.

    The other elements are divided by ``1 − probability``, so that the mean stays the same.
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 2014.

    Parameters
    ----------
    name : str
    probability : float
        Chance of an element to be set to zero, from 0 to 1.
    rng : int, numpy.random.Generator or None
        Source of the masks. NumPy draws them, so that a seed gives the same masks on every backend.
        A copy or a replica of the layer goes on from the same state with a generator of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Dropout
    >>> dropout = Dropout("dropout", 0.5, rng=0)
    >>> dropout(np.ones((1, 6)))
    array([[2., 2., 2., 0., 0., 0.]])
    >>> dropout.backward(np.ones((1, 6)))
    array([[2., 2., 2., 0., 0., 0.]])
    >>> dropout.eval()(np.ones((1, 6)))
    array([[1., 1., 1., 1., 1., 1.]])
    """

    saved: Saved | None
    probability = Number(at_least=0, at_most=1)

    def __init__(
        self,
        name: str,
        probability: float = 0.5,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(name)
        self.probability = probability
        self.rng = generator(rng)

    def forward(self, x: Array) -> Array:
        """``x``, or in training mode ``x`` with some elements 0 and the others scaled."""
        self.check_numbers("input", x)
        backend = backend_for(x)
        y = as_floats(x)
        kept = None
        if self.training and self.probability > 0:
            drawn = self.rng.random(self._mask_shape(x), np.float32)
            with backend.scope(x):
                kept = backend.xp.asarray(drawn >= np.float32(self.probability))
            y = self._masked(y, kept).astype(y.dtype, copy=False)
        self.saved = Saved(kept, tuple(x.shape), y.dtype)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """The gradient with the same elements 0, and the others scaled."""
        kept, shape, dtype = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, shape)
        if kept is not None:
            in_gradient = self._masked(in_gradient, kept)
        return in_gradient.astype(dtype, copy=False)

    @quiet
    def _masked(self, array: Array, kept: Array) -> Array:
        """The kept elements, scaled, and zeros; float32 for float16."""
        xp = backend_for(array, kept).xp
        result = array.astype(xp.result_type(array, np.float32), copy=False) * kept
        result *= 1 / (1 - self.probability) if self.probability < 1 else 0
        return result

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        return tuple(x.shape)


class Dropout2D(Dropout):
    """Set whole channels of images to zero at random in training mode.

    Neighbouring pixels are so alike that dropping single ones has little effect. Tompson et al.,
    "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Parameters
    ----------
    name : str
    probability : float
        Chance of a channel of a sample to be set to zero, from 0 to 1.
    rng : int, numpy.random.Generator or None
        As of `Dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Dropout2D
    >>> Dropout2D("dropout", 0.5, rng=2)(np.ones((1, 2, 1, 3)))
    array([[[[2., 2., 2.]],
    <BLANKLINE>
            [[0., 0., 0.]]]])
    """

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        check_shape(f"{self!r}: input", x, ("samples", "channels", "height", "width"))
        return (*x.shape[:2], 1, 1)
