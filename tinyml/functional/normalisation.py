"""Normalisation: names, arguments and values of ``torch.nn.functional``, and the gradients.

The gradients return those with respect to ``input``, ``weight`` and ``bias``. The derivation is on
the page docs/normalisation.md.
"""

from collections.abc import Sequence
from typing import TypeVar

from tinyml.arrays import check_dtype, check_shape, to_numpy
from tinyml.core.parameter import Buffer
from tinyml.layers.batch_norm import BatchNorm, BatchNorm1D, BatchNorm2D, BatchNorm3D
from tinyml.layers.layer_norm import GroupNorm, LayerNorm, RowNorm
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, as_floats, widened

Gradients = tuple[Array, Array, Array]
L = TypeVar("L", bound=RowNorm | BatchNorm)


def batch_norm(
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """As ``torch.nn.functional.batch_norm``; in training it updates the running statistics."""
    layer = _batch_norm(input, running_mean, running_var, weight, bias, training, eps)
    layer.momentum = momentum
    y = layer(input)
    if training:
        for running, buffer in (
            (running_mean, layer.running_mean),
            (running_var, layer.running_variance),
        ):
            if running is not None:
                running[...] = buffer.tensor
    return y


def batch_norm_gradient(
    gradient: Array,
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    training: bool = False,
    eps: float = 1e-5,
) -> Gradients:
    """Gradients of `batch_norm`; the running statistics do not change."""
    layer = _batch_norm(input, running_mean, running_var, weight, None, training, eps)
    return _gradients(layer, gradient, input)


def layer_norm(
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """As ``torch.nn.functional.layer_norm``."""
    layer = LayerNorm("layer_norm", normalized_shape, epsilon=eps)
    return _with(layer, input, weight, bias)(input)


def layer_norm_gradient(
    gradient: Array,
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Gradients of `layer_norm`."""
    layer = LayerNorm("layer_norm", normalized_shape, epsilon=eps)
    return _gradients(_with(layer, input, weight, None), gradient, input)


def group_norm(
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """As ``torch.nn.functional.group_norm``."""
    layer = GroupNorm("group_norm", tuple(input.shape[1:]), num_groups, epsilon=eps)
    return _with(layer, input, weight, bias)(input)


def group_norm_gradient(
    gradient: Array,
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Gradients of `group_norm`."""
    layer = GroupNorm("group_norm", tuple(input.shape[1:]), num_groups, epsilon=eps)
    return _gradients(_with(layer, input, weight, None), gradient, input)


def _batch_norm(
    input: Array,
    mean: Array | None,
    variance: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    eps: float,
) -> BatchNorm:
    check_dtype("input", input)
    kinds = {2: BatchNorm1D, 3: BatchNorm1D, 4: BatchNorm2D, 5: BatchNorm3D}
    if input.ndim not in kinds:
        raise ValueError(
            f"input has {input.ndim} axes; it must be (samples, channels) and up to three more"
        )
    if not training and (mean is None or variance is None):
        raise ValueError("running_mean and running_var are missing; without training they are used")
    layer: BatchNorm = kinds[input.ndim]("batch_norm", tuple(input.shape[1:]), epsilon=eps)
    layer.train(training)
    _with(layer, input, weight, bias)
    for name, given, buffer in (
        ("running_mean", mean, layer.running_mean),
        ("running_var", variance, layer.running_variance),
    ):
        if given is None:
            _fit(buffer, input)
        else:
            check_shape(name, given, (input.shape[1],))
            backend_for(input, given)
            buffer.tensor = given.copy()
    return layer


def _with(layer: L, input: Array, weight: Array | None, bias: Array | None) -> L:
    """The layer with these parameters, or those it was made with on the input's device."""
    check_dtype("input", input)
    for name, given, parameter in (("weight", weight, layer.scale), ("bias", bias, layer.shift)):
        if given is None:
            _fit(parameter, input)
        else:
            check_shape(name, given, tuple(parameter.tensor.shape))
            backend_for(input, given)
            parameter.tensor = given
        parameter.gradient = backend_for(input).xp.zeros_like(parameter.tensor)
    return layer


def _fit(buffer: Buffer, input: Array) -> None:
    """Move a buffer to the input's device, in the dtype of the computation."""
    backend = backend_for(input)
    with backend.scope(input):
        host = to_numpy(buffer.tensor).astype(widened(as_floats(input)).dtype)
        buffer.tensor = backend.xp.asarray(host)


def _gradients(layer: RowNorm | BatchNorm, gradient: Array, input: Array) -> Gradients:
    layer(input)
    of_input = layer.backward(gradient)
    return of_input, layer.scale.gradient, layer.shift.gradient
