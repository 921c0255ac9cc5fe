"""Batch normalisation of images (samples, channels, …), in steps that each are one pass."""

from types import ModuleType

from tinyml_backends.arrays import Array
from tinyml_backends.memory import empty


def sum_channels(x: Array) -> Array:
    """Sum of each channel."""
    return x.sum(_but_channels(x))


def scale_channels(xp: ModuleType, x: Array, scale: Array) -> Array:
    """Product with one number for each channel."""
    out = empty(xp, x.shape, xp.result_type(x, scale))
    return xp.multiply(x, by_channel(scale, x), out=out)


def moments(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel."""
    mean = x.mean(_but_channels(x))
    deviation = xp.subtract(x, by_channel(mean, x), out=empty(xp, x.shape, x.dtype))
    return mean, _sum_of_products(xp, deviation, deviation) / (x.size // x.shape[1])


def normalize(
    xp: ModuleType, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
) -> tuple[Array, Array]:
    """Scaled and shifted result, and the normalised input."""
    dtype = xp.result_type(x, mean, inverse_deviation, scale)
    normalized = xp.subtract(x, by_channel(mean, x), out=empty(xp, x.shape, dtype))
    normalized *= by_channel(inverse_deviation, x)
    y = xp.multiply(normalized, by_channel(scale, x), out=empty(xp, x.shape, dtype))
    y += by_channel(shift, x)
    return y, normalized


def normalize_sums(xp: ModuleType, gradient: Array, normalized: Array) -> tuple[Array, Array]:
    """Sums of the gradient, and of the gradient times the normalised input, of each channel."""
    return sum_channels(gradient), _sum_of_products(xp, gradient, normalized)


def normalize_gradient(
    xp: ModuleType, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
) -> Array:
    """``(gradient − normalized · share − mean) · slope``, with one number for each channel."""
    out = empty(xp, normalized.shape, xp.result_type(normalized, share, gradient))
    xp.multiply(normalized, by_channel(-share, normalized), out=out)
    out += gradient
    out -= by_channel(mean, out)
    out *= by_channel(slope, out)
    return out


def by_channel(array: Array, images: Array) -> Array:
    """One value for each channel, ready to broadcast over images."""
    return array.reshape(-1, *[1] * (images.ndim - 2))


def _but_channels(images: Array) -> tuple[int, ...]:
    return (0, *range(2, images.ndim))


def _sum_of_products(xp: ModuleType, a: Array, b: Array) -> Array:
    """Sum over samples and pixels of ``a · b``, for each channel, without an array of products."""
    axes = "nc" + "xyz"[: a.ndim - 2]
    return xp.einsum(f"{axes},{axes}->c", a, b)
