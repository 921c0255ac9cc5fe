"""Every layer: the dtypes of its output and input gradient are the input's, whatever its own."""

import numpy as np
import pytest

from test_float_errors import LAYERS


def expected(name, dtype):
    """Dtypes that the result may have: pooling and layers that move values may keep integers."""
    if np.dtype(dtype).kind == "f":
        return {np.dtype(dtype)}
    keeps = "Pool" in name or name in (
        "Add",
        "Concat",
        "Flatten",
        "PadChannels2D",
        "Reshape",
        "ReLU",
    )
    return (
        {np.dtype("float32"), np.dtype(dtype)}
        if keeps or "Unpool" in name
        else {np.dtype("float32")}
    )


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("of_parameters", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(backend, name, of_parameters, dtype):
    layer = LAYERS[name]()
    axes = {"1": 1, "3": 3}.get(name[-2], 2)
    for buffer in {*layer.buffers, *layer.parameters}:
        buffer.tensor = buffer.tensor.astype(of_parameters)
    for parameter in layer.parameters:
        parameter.gradient = backend.xp.zeros_like(parameter.tensor)
    values = np.random.default_rng(0).integers(0, 9, (2, 2, *[6] * axes)).astype(dtype)
    x = backend.asarray(values)
    inputs = (x, x) if name in ("Add", "Concat") else (x,)
    if "Unpool" in name:
        inputs = (x, backend.asarray(np.zeros(x.shape, np.uint8)))
    for training in (True, False):
        y = layer.train(training).forward(*inputs)
        assert y.dtype in expected(name, dtype)
        if np.dtype(dtype).kind == "f":
            back = layer.backward(y)
            back = back if isinstance(back, tuple) else (back,)
            assert all(gradient.dtype == dtype for gradient in back)
        for parameter in layer.parameters:
            assert parameter.gradient.dtype == of_parameters
