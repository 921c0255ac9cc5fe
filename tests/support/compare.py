"""Equality to the last bit."""

import numpy as np


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def assert_same_bits(actual, expected):
    """Same dtype, shape and bits: signed zeros and NaN payloads count."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(bits(actual), bits(expected))


def assert_same_sums(actual, expected):
    """Same bits, except that a NaN may have any sign and payload."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    nan = np.isnan(expected) if expected.dtype.kind == "f" else np.zeros(expected.shape, bool)
    if expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(bits(actual)[~nan], bits(expected)[~nan])
