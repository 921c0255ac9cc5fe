"""Kernels of batch normalisation, for float32 and float64.

An item is a plane: one channel of one sample. Arrays are flat; ``channels`` and ``pixels`` are the
sizes of the images. Sums are computed in float64, for each plane, and `by_channel` adds the planes'
in the order of the samples. So they do not depend on the chunks.
"""

from functools import partial
from typing import Any

from tinyml_backends.numba_backend.compiled import at, compiled, put

#: A multiplication and an addition may become one instruction, which rounds once.
fused = partial(compiled, fastmath={"contract"})
#: A sum may also be that of several partial sums, which form a vector.
summing = partial(compiled, fastmath={"contract", "reassoc"})


@summing
def sums(x: Any, of_planes: Any, pixels: int, start: int, stop: int) -> None:
    """Sum of each plane."""
    for plane in range(start, stop):
        total = 0.0
        for i in range(plane * pixels, (plane + 1) * pixels):
            total += at(x, i)
        put(of_planes, plane, total)


@summing
def moments(x: Any, means: Any, squares: Any, pixels: int, start: int, stop: int) -> None:
    """Mean of each plane, and the sum of the squared differences from it.

    A plane is still in the cache when it is read again.
    """
    for plane in range(start, stop):
        total = 0.0
        for i in range(plane * pixels, (plane + 1) * pixels):
            total += at(x, i)
        mean = total / pixels
        total = 0.0
        for i in range(plane * pixels, (plane + 1) * pixels):
            difference = at(x, i) - mean
            total += difference * difference
        put(means, plane, mean)
        put(squares, plane, total)


@summing
def products(
    gradient: Any, normalized: Any, sums: Any, products: Any, pixels: int, start: int, stop: int
) -> None:
    """Sums of the gradient and of its products, of each plane."""
    for plane in range(start, stop):
        total = of_products = 0.0
        for i in range(plane * pixels, (plane + 1) * pixels):
            value = 1.0 * at(gradient, i)
            total += value
            of_products += value * at(normalized, i)
        put(sums, plane, total)
        put(products, plane, of_products)


@fused
def by_channel(of_planes: Any, out: Any, start: int, stop: int) -> None:
    """Sum of the planes of each channel; here an item is a channel."""
    channels = len(out)
    for channel in range(start, stop):
        total = 0.0
        for plane in range(channel, len(of_planes), channels):
            total += at(of_planes, plane)
        out[channel] = total


@fused
def of_batch(
    means: Any, squares: Any, pixels: int, mean: Any, variance: Any, start: int, stop: int
) -> None:
    """Mean and variance of each channel, from those of its planes; here an item is a channel.

    As in Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).
    """
    channels = len(mean)
    samples = len(means) // channels
    for channel in range(start, stop):
        total = 0.0
        for plane in range(channel, len(means), channels):
            total += at(means, plane)
        centre = total / samples
        within = between = 0.0
        for plane in range(channel, len(means), channels):
            difference = at(means, plane) - centre
            within += at(squares, plane)
            between += difference * difference
        mean[channel] = centre
        variance[channel] = (within / pixels + between) / samples


@fused
def normalize(
    x: Any, per_channel: Any, y: Any, normalized: Any, pixels: int, start: int, stop: int
) -> None:
    """``per_channel`` are the mean, the inverse deviation, the scale and the shift."""
    means, inverses, scales, shifts = per_channel
    for plane in range(start, stop):
        channel = plane % len(means)
        mean, inverse = at(means, channel), at(inverses, channel)
        scale, shift = at(scales, channel), at(shifts, channel)
        for i in range(plane * pixels, (plane + 1) * pixels):
            value = (at(x, i) - mean) * inverse
            put(normalized, i, value)
            put(y, i, value * scale + shift)


@fused
def normalize_gradient(
    gradient: Any, normalized: Any, per_channel: Any, out: Any, pixels: int, start: int, stop: int
) -> None:
    """``per_channel`` are the mean, the share and the slope."""
    means, shares, slopes = per_channel
    for plane in range(start, stop):
        channel = plane % len(means)
        mean, share, slope = at(means, channel), at(shares, channel), at(slopes, channel)
        for i in range(plane * pixels, (plane + 1) * pixels):
            put(out, i, (at(gradient, i) - at(normalized, i) * share - mean) * slope)


@fused
def scale(x: Any, scales: Any, out: Any, pixels: int, start: int, stop: int) -> None:
    """Product with one number for each channel."""
    for plane in range(start, stop):
        factor = at(scales, plane % len(scales))
        for i in range(plane * pixels, (plane + 1) * pixels):
            put(out, i, at(x, i) * factor)
