"""The methods of the contract for convolution."""

from tinyml_backends.generic import convolution


class Convolution(convolution.Steps):
    """Kernels of convolution, on arrays (N, C, …)."""

    conv = convolution.conv
    conv_gradient = convolution.conv_gradient
    conv_input = convolution.conv_input
    conv_weight = convolution.conv_weight
    im2col = convolution.im2col
    col2im = convolution.col2im
