"""Derivatives by central differences, in float64."""

import numpy as np


def numerical_gradient(function, x, step):
    """Gradient of a scalar function of an array, one element at a time."""
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient


def in_float64(layer, backend):
    """The layer with its parameters and buffers in float64."""
    for buffer in layer.buffers:
        buffer.tensor = buffer.tensor.astype(np.float64)
    for parameter in layer.parameters:
        parameter.tensor = parameter.tensor.astype(np.float64)
        parameter.gradient = backend.xp.zeros_like(parameter.tensor)
    return layer


def check_gradients(layer, x, backend, *, step=1e-5, tolerance=1e-6):
    """Compare ``backward`` with central differences of ``forward``: input and each parameter.

    The input is given non-contiguous, and must not change.
    """
    in_float64(layer, backend)
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))
    wide[..., ::2] = x
    given = backend.asarray(wide)[..., ::2]
    y = layer(given)
    weights = np.random.default_rng(0).standard_normal(y.shape)
    before = weights.copy()
    layer.zero_gradients()
    ours = backend.to_numpy(layer.backward(backend.asarray(weights)))
    np.testing.assert_array_equal(backend.to_numpy(given), x)
    np.testing.assert_array_equal(weights, before)
    assert ours.dtype == np.float64

    def loss_of_input(values):
        return float((backend.to_numpy(layer(backend.asarray(values))) * weights).sum())

    expected = numerical_gradient(loss_of_input, x, step)
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)

    for parameter in layer.parameters:
        start = backend.to_numpy(parameter.tensor).copy()

        def loss_of_parameter(values, parameter=parameter):
            parameter.tensor = backend.asarray(values)
            return loss_of_input(x)

        expected = numerical_gradient(loss_of_parameter, start, step)
        parameter.tensor = backend.asarray(start)
        np.testing.assert_allclose(
            backend.to_numpy(parameter.gradient), expected, rtol=tolerance, atol=tolerance
        )
