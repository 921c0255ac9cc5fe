"""The steps of batch normalisation, on arrays (N, C, …) of samples and channels."""

from types import ModuleType

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.memory import empty


def sum_channels(backend: Arrays, x: Array) -> Array:
    """Sum of each channel of ``x`` (N, C, …)."""
    return x.sum(_but_channels(x))


def scale_channels(backend: Arrays, x: Array, scale: Array) -> Array:
    """``x · scale``, where ``scale`` has one number for each channel of ``x`` (N, C, …)."""
    xp = backend.xp
    out = empty(xp, x.shape, xp.result_type(x, scale))
    return xp.multiply(x, by_channel(scale, x), out=out)


def moments(backend: Arrays, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of ``x`` (N, C, …)."""
    xp = backend.xp
    mean = x.mean(_but_channels(x))
    deviation = xp.subtract(x, by_channel(mean, x), out=empty(xp, x.shape, x.dtype))
    return mean, _sum_of_products(xp, deviation, deviation) / (x.size // x.shape[1])


def normalize(
    backend: Arrays, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
) -> tuple[Array, Array]:
    """``normalized · scale + shift`` and ``normalized = (x − mean) · inverse_deviation``.

    All but ``x`` have one number for each channel.
    """
    xp = backend.xp
    dtype = xp.result_type(x, mean, inverse_deviation, scale)
    normalized = xp.subtract(x, by_channel(mean, x), out=empty(xp, x.shape, dtype))
    normalized *= by_channel(inverse_deviation, x)
    y = xp.multiply(normalized, by_channel(scale, x), out=empty(xp, x.shape, dtype))
    y += by_channel(shift, x)
    return y, normalized


def normalize_sums(backend: Arrays, gradient: Array, normalized: Array) -> tuple[Array, Array]:
    """Sums of ``gradient`` and of ``gradient · normalized``, of each channel."""
    products = _sum_of_products(backend.xp, gradient, normalized)
    return gradient.sum(_but_channels(gradient)), products


def normalize_gradient(
    backend: Arrays, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
) -> Array:
    """``(gradient − normalized · share − mean) · slope``.

    ``mean``, ``share`` and ``slope`` have one number for each channel.
    """
    xp = backend.xp
    out = empty(xp, normalized.shape, xp.result_type(normalized, share, gradient))
    xp.multiply(normalized, by_channel(-share, normalized), out=out)
    out += gradient
    out -= by_channel(mean, out)
    out *= by_channel(slope, out)
    return out


def by_channel(array: Array, images: Array) -> Array:
    """``array``, which has one value for each channel, reshaped to broadcast over ``images``."""
    return array.reshape(-1, *[1] * (images.ndim - 2))


def _but_channels(images: Array) -> tuple[int, ...]:
    return (0, *range(2, images.ndim))


def _sum_of_products(xp: ModuleType, a: Array, b: Array) -> Array:
    """Sum over samples and pixels of ``a · b``, for each channel, without an array of products."""
    axes = "nc" + "xyz"[: a.ndim - 2]
    return xp.einsum(f"{axes},{axes}->c", a, b)
