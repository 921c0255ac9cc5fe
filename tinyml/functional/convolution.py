"""Convolution: names, arguments and values of ``torch.nn.functional`` and ``torch.nn.grad``.

CuPy has no convolution with several channels of its own; these functions run on its arrays too.
Results have the input's floating dtype, float32 for integers; float16 is computed in float32.
"""

from collections.abc import Sequence

from tinyml.arrays import check_dtype, check_shape
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, integer, lengths, per_axis
from tinyml_backends.arrays import Array, as_floats, quiet
from tinyml_backends.convolutions import transposed, window_of


def conv1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """As ``torch.nn.functional.conv1d``; ``padding`` may also be (before, after) pairs."""
    return _conv(1, input, weight, bias, (stride, padding, dilation), groups)


def conv1d_input(
    input_size: Sequence[int],
    weight: Array,
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv1d` with respect to its input, as ``torch.nn.grad.conv1d_input``."""
    options = stride, padding, dilation
    return _conv_input(1, input_size, weight, grad_output, options, groups)


def conv1d_weight(
    input: Array,
    weight_size: Sequence[int],
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv1d` with respect to its weight, as ``torch.nn.grad.conv1d_weight``."""
    options = stride, padding, dilation
    return _conv_weight(1, input, weight_size, grad_output, options, groups)


def conv_transpose1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.conv_transpose1d``.

    With ``output_padding`` below the stride, its gradients are ``conv1d(gradient, weight, …)``
    and, with respect to the weight, ``conv1d_weight(gradient, weight.shape, input, …)``.
    """
    options = stride, padding, dilation
    return _conv_transpose(1, input, weight, bias, options, output_padding, groups)


def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """As ``torch.nn.functional.conv2d``; ``padding`` may also be (before, after) pairs."""
    return _conv(2, input, weight, bias, (stride, padding, dilation), groups)


def conv2d_input(
    input_size: Sequence[int],
    weight: Array,
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` with respect to its input, as ``torch.nn.grad.conv2d_input``."""
    options = stride, padding, dilation
    return _conv_input(2, input_size, weight, grad_output, options, groups)


def conv2d_weight(
    input: Array,
    weight_size: Sequence[int],
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` with respect to its weight, as ``torch.nn.grad.conv2d_weight``."""
    options = stride, padding, dilation
    return _conv_weight(2, input, weight_size, grad_output, options, groups)


def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.conv_transpose2d``.

    With ``output_padding`` below the stride, its gradients are ``conv2d(gradient, weight, …)``
    and, with respect to the weight, ``conv2d_weight(gradient, weight.shape, input, …)``.
    """
    options = stride, padding, dilation
    return _conv_transpose(2, input, weight, bias, options, output_padding, groups)


def conv3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """As ``torch.nn.functional.conv3d``; ``padding`` may also be (before, after) pairs."""
    return _conv(3, input, weight, bias, (stride, padding, dilation), groups)


def conv3d_input(
    input_size: Sequence[int],
    weight: Array,
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv3d` with respect to its input, as ``torch.nn.grad.conv3d_input``."""
    options = stride, padding, dilation
    return _conv_input(3, input_size, weight, grad_output, options, groups)


def conv3d_weight(
    input: Array,
    weight_size: Sequence[int],
    grad_output: Array,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis | str = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv3d` with respect to its weight, as ``torch.nn.grad.conv3d_weight``."""
    options = stride, padding, dilation
    return _conv_weight(3, input, weight_size, grad_output, options, groups)


def conv_transpose3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntPerAxis = 1,
    padding: PaddingPerAxis = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.conv_transpose3d``.

    With ``output_padding`` below the stride, its gradients are ``conv3d(gradient, weight, …)``
    and, with respect to the weight, ``conv3d_weight(gradient, weight.shape, input, …)``.
    """
    options = stride, padding, dilation
    return _conv_transpose(3, input, weight, bias, options, output_padding, groups)


def _conv(
    axes: int,
    input: Array,
    weight: Array,
    bias: Array | None,
    options: "_Options",
    groups: int,
) -> Array:
    check_dtype("input", input)
    if input.ndim == axes + 1:
        return _conv(axes, input[None], weight, bias, options, groups)[0]
    window, groups = _checked(axes, weight, options, groups)
    filters, channels = weight.shape[0], weight.shape[1] * groups
    check_shape("input", input, ("samples", channels, *_AXES[axes]))
    backend = backend_for(input, weight)
    if bias is not None:
        check_shape("bias", bias, (filters,))
        backend_for(input, bias)
    return backend.conv(input, weight, bias, window, groups)


def _conv_input(
    axes: int,
    input_size: Sequence[int],
    weight: Array,
    gradient: Array,
    options: "_Options",
    groups: int,
) -> Array:
    check_dtype("grad_output", gradient)
    is_one = gradient.ndim == axes + 1
    size = lengths("input_size", input_size, axes + 2 - is_one, 0)
    if is_one:
        size = (1, *size)
        return _conv_input(axes, size, weight, gradient[None], options, groups)[0]
    window, groups = _checked(axes, weight, options, groups)
    channels = weight.shape[1] * groups
    if size[1] != channels:
        wanted = ", ".join(("samples", str(channels), *_AXES[axes]))
        raise ValueError(f"input_size is {tuple(size)}; it must be ({wanted})")
    outputs = window.output_shape(size[2:])
    check_shape("grad_output", gradient, (size[0], len(weight), *outputs))
    return backend_for(gradient, weight).conv_input(
        gradient, weight, None, size[2:], window, groups
    )


@quiet
def _conv_weight(
    axes: int,
    input: Array,
    weight_size: Sequence[int],
    gradient: Array,
    options: "_Options",
    groups: int,
) -> Array:
    check_dtype("input", input)
    if input.ndim == axes + 1:
        return _conv_weight(axes, input[None], weight_size, gradient[None], options, groups)
    size = lengths("weight_size", weight_size, axes + 2)
    window, groups = _window(axes, "weight_size", size, options, groups)
    check_shape("input", input, ("samples", size[1] * groups, *_AXES[axes]))
    outputs = window.output_shape(input.shape[2:])
    check_shape("grad_output", gradient, (len(input), size[0], *outputs))
    result = backend_for(input, gradient).conv_weight(gradient, input, size, window, groups)
    return result.astype(as_floats(input).dtype, copy=False)


def _conv_transpose(
    axes: int,
    input: Array,
    weight: Array,
    bias: Array | None,
    options: "_Options",
    output_padding: IntPerAxis,
    groups: int,
) -> Array:
    check_dtype("input", input)
    if input.ndim == axes + 1:
        given = input[None], weight, bias, options, output_padding, groups
        return _conv_transpose(axes, *given)[0]
    if isinstance(options[1], str):
        raise TypeError(
            f"padding is {options[1]!r}; it must be ints, since 'same' and 'valid' are for "
            "convolutions that are not transposed"
        )
    window, groups = _checked(axes, weight, options, groups)
    more = per_axis("output_padding", output_padding, axes, 0)
    window = transposed("output_padding", more, window)
    check_shape("input", input, ("samples", len(weight), *_AXES[axes]))
    backend = backend_for(input, weight)
    if bias is not None:
        check_shape("bias", bias, (weight.shape[1] * groups,))
        backend_for(input, bias)
    spatial = window.transposed_shape(input.shape[2:])
    return backend.conv_input(input, weight, bias, spatial, window, groups)


_Options = tuple[IntPerAxis, PaddingPerAxis | str, IntPerAxis]
_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _checked(axes: int, weight: Array, options: _Options, groups: int) -> tuple[Window, int]:
    check_dtype("weight", weight)
    check_shape("weight", weight, ("filters", "channels", *_AXES[axes]))
    return _window(axes, "weight", tuple(weight.shape), options, groups)


def _window(
    axes: int, name: str, shape: tuple[int, ...], options: _Options, groups: int
) -> tuple[Window, int]:
    groups = integer("groups", groups, 1)
    if shape[0] % groups:
        raise ValueError(f"groups is {groups}; it must divide the first length of {name}, {shape}")
    stride, padding, dilation = options
    return window_of(axes, shape[2:], stride, padding, dilation), groups
