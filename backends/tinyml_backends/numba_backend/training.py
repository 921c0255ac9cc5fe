"""Which calls of normalisation, losses and optimizers run compiled kernels."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import class_loss, norm, steps
from tinyml_backends.numba_backend.activation import TERMS
from tinyml_backends.numba_backend.scheduling import run
from tinyml_backends.numpy_backend import NumpyBackend

#: Smaller planes are left to NumPy, whose loops are over other axes then.
PIXELS = 16
FLOATS = frozenset(map(np.dtype, ("f4", "f8")))


class NumbaTraining(NumpyBackend):
    """Batch normalisation, softmax cross-entropy and optimizers' steps.

    Arrays of several dtypes, float16 and integers are left to the NumPy backend.
    """

    def sum_channels(self, x: Array) -> Array:
        """As `Backend.sum_channels`."""
        if not _are_planes(x):
            return super().sum_channels(x)
        pixels, of_planes = prod(x.shape[2:]), np.empty(x.shape[0] * x.shape[1])
        run(norm.sums, (x.ravel(), of_planes, pixels), len(of_planes), x.nbytes)
        return _by_channel(of_planes, x)

    def scale_channels(self, x: Array, scale: Array) -> Array:
        """As `Backend.scale_channels`."""
        if not (_are_planes(x) and _are_per_channel(x, scale)):
            return super().scale_channels(x, scale)
        out = empty(np, x.shape, x.dtype)
        planes, pixels = x.shape[0] * x.shape[1], prod(x.shape[2:])
        arguments = (x.ravel(), scale.ravel(), out.ravel(), pixels)
        run(norm.scale, arguments, planes, 2 * x.nbytes)
        return out

    def moments(self, x: Array) -> tuple[Array, Array]:
        """As `Backend.moments`."""
        if not _are_planes(x):
            return super().moments(x)
        pixels = prod(x.shape[2:])
        means, squares = np.empty((2, x.shape[0] * x.shape[1]))
        run(norm.moments, (x.ravel(), means, squares, pixels), len(means), x.nbytes)
        mean, variance = np.empty((2, x.shape[1]), x.dtype)
        norm.of_batch(means, squares, pixels, mean, variance, 0, len(mean))
        return mean, variance

    def normalize(
        self, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        """As `Backend.normalize`."""
        per_channel = (mean, inverse_deviation, scale, shift)
        if not (_are_planes(x) and _are_per_channel(x, *per_channel)):
            return super().normalize(x, *per_channel)
        y, normalized = empty(np, x.shape, x.dtype), empty(np, x.shape, x.dtype)
        numbers = tuple(array.ravel() for array in per_channel)
        planes, pixels = x.shape[0] * x.shape[1], prod(x.shape[2:])
        arguments = (x.ravel(), numbers, y.ravel(), normalized.ravel(), pixels)
        run(norm.normalize, arguments, planes, 3 * x.nbytes)
        return y, normalized

    def normalize_sums(self, gradient: Array, normalized: Array) -> tuple[Array, Array]:
        """As `Backend.normalize_sums`."""
        if not (_are_planes(gradient) and _are_alike(gradient, normalized)):
            return super().normalize_sums(gradient, normalized)
        sums, products = np.empty((2, gradient.shape[0] * gradient.shape[1]))
        flat = (gradient.ravel(), normalized.ravel(), sums, products)
        pixels = prod(gradient.shape[2:])
        run(norm.products, (*flat, pixels), len(sums), 2 * gradient.nbytes)
        return _by_channel(sums, gradient), _by_channel(products, gradient)

    def normalize_gradient(
        self, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
    ) -> Array:
        """As `Backend.normalize_gradient`."""
        per_channel = (mean, share, slope)
        fit = _are_planes(gradient) and _are_alike(gradient, normalized)
        if not (fit and _are_per_channel(gradient, *per_channel)):
            return super().normalize_gradient(gradient, normalized, *per_channel)
        out = empty(np, gradient.shape, gradient.dtype)
        numbers = tuple(array.ravel() for array in per_channel)
        planes, pixels = gradient.shape[0] * gradient.shape[1], prod(gradient.shape[2:])
        arguments = (gradient.ravel(), normalized.ravel(), numbers, out.ravel(), pixels)
        run(norm.normalize_gradient, arguments, planes, 3 * out.nbytes)
        return out

    def class_losses(
        self, logits: Array, classes: Array, counted: Array
    ) -> tuple[Array, Array, Array]:
        """As `Backend.class_losses`."""
        if not (_are_planes(logits) and _fit_planes(logits, classes, counted)):
            return super().class_losses(logits, classes, counted)
        exponentials = empty(np, logits.shape, logits.dtype)
        totals, chosen = np.empty((2, *classes.shape), logits.dtype)
        flat = (a.ravel() for a in (logits, classes, exponentials, totals, chosen))
        arguments = (*flat, TERMS[logits.dtype], _sizes(logits))
        run(class_loss.losses, arguments, _blocks(logits), 3 * logits.nbytes)
        losses = np.where(counted, np.log(totals) - chosen, logits.dtype.type(0))
        return losses, exponentials, totals[:, None]

    def class_losses_gradient(
        self, exponentials: Array, totals: Array, classes: Array, counted: Array, divisor: int
    ) -> Array:
        """As `Backend.class_losses_gradient`."""
        fit = _are_planes(exponentials) and _fit_planes(exponentials, classes, counted)
        if not (fit and exponentials.flags.c_contiguous):
            return super().class_losses_gradient(exponentials, totals, classes, counted, divisor)
        flat = exponentials.reshape(-1), totals.ravel(), classes.ravel()
        factor = exponentials.dtype.type(1 / divisor)
        arguments = (*flat, counted.ravel().view(np.uint8), factor, _sizes(exponentials))
        run(class_loss.gradient, arguments, _blocks(exponentials), 2 * exponentials.nbytes)
        return exponentials

    def sgd_step(
        self,
        tensor: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """As `Backend.sgd_step`."""
        arrays = (tensor, gradient) if velocity is None else (tensor, gradient, velocity)
        if not _can_step(*arrays):
            super().sgd_step(tensor, gradient, velocity, learning_rate, momentum)
            return
        number = tensor.dtype.type
        numbers: tuple[Any, ...] = (number(learning_rate),)
        kernel, size = steps.sgd, 3 * tensor.nbytes
        if velocity is not None:
            numbers = (*numbers, number(momentum))
            kernel, size = steps.momentum, 5 * tensor.nbytes
        run(kernel, (*(array.reshape(-1) for array in arrays), *numbers), tensor.size, size)

    def adam_step(
        self,
        tensor: Array,
        gradient: Array,
        first: Array,
        second: Array,
        decays: tuple[float, float],
        rate: float,
        correction: float,
        epsilon: float,
    ) -> None:
        """As `Backend.adam_step`."""
        arrays = (tensor, gradient, first, second)
        if not _can_step(*arrays):
            super().adam_step(*arrays, decays, rate, correction, epsilon)
            return
        of_decays = (n for decay in decays for n in (decay, 1 - decay))
        numbers = tuple(map(tensor.dtype.type, (*of_decays, rate, correction, epsilon)))
        flat = (array.reshape(-1) for array in arrays)
        run(steps.adam, (*flat, numbers), tensor.size, 7 * tensor.nbytes)


def _are_planes(x: Array) -> bool:
    """Whether kernels can work on the planes of ``x``."""
    return x.dtype in FLOATS and x.ndim > 2 and x.size > 0 and prod(x.shape[2:]) >= PIXELS


def _fit_planes(images: Array, classes: Array, counted: Array) -> bool:
    """Whether there is one class for each pixel."""
    shape = (len(images), *images.shape[2:])
    dtypes = np.dtype(np.int64), np.dtype(bool)
    return classes.shape == counted.shape == shape and (classes.dtype, counted.dtype) == dtypes


def _sizes(images: Array) -> tuple[int, int]:
    """Numbers of channels and of pixels."""
    return images.shape[1], prod(images.shape[2:])


def _blocks(images: Array) -> int:
    """Blocks of pixels of all samples."""
    _, pixels = _sizes(images)
    return len(images) * -(-pixels // class_loss.BLOCK)


def _are_alike(*arrays: Array) -> bool:
    return len({(array.dtype, array.shape) for array in arrays}) == 1


def _are_per_channel(images: Array, *arrays: Array) -> bool:
    """Whether each of ``arrays`` has one number of the images' dtype for each channel."""
    return all(a.shape == images.shape[1:2] and a.dtype == images.dtype for a in arrays)


def _can_step(*arrays: Array) -> bool:
    """Whether a kernel can update these arrays in place."""
    return (
        arrays[0].dtype in FLOATS
        and _are_alike(*arrays)
        and all(array.flags.c_contiguous for array in arrays)
    )


def _by_channel(of_planes: Array, images: Array) -> Array:
    """Sums of channels, from those of their planes, in the dtype of the images."""
    out = np.empty(images.shape[1], images.dtype)
    norm.by_channel(of_planes, out, 0, len(out))
    return out
