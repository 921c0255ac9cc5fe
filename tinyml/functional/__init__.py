"""PyTorch's functions on NumPy and CuPy arrays, and gradients of some.

Names, argument order, keywords, defaults and values are those of ``torch.nn.functional``; indices
are int64 and count the cells of a plane. PyTorch is not imported. Where its result is undefined,
the rules of docs/pooling.md hold: for example, the last of several values for one cell is kept.

>>> import numpy as np
>>> import tinyml.functional as F
>>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
>>> y, indices = F.max_pool2d(x, 2, stride=1, return_indices=True)
>>> indices
array([[[[4, 5],
         [7, 8]]]])
>>> F.max_unpool2d(y, indices, 2, stride=1)
array([[[[0, 0, 0],
         [0, 5, 6],
         [0, 8, 9]]]])
"""

from tinyml.functional.activation import (
    elu,
    elu_gradient,
    gelu,
    gelu_gradient,
    leaky_relu,
    leaky_relu_gradient,
    log_softmax,
    log_softmax_gradient,
    prelu,
    prelu_gradient,
    relu,
    relu_gradient,
    sigmoid,
    sigmoid_gradient,
    silu,
    silu_gradient,
    softmax,
    softmax_gradient,
    tanh,
    tanh_gradient,
)
from tinyml.functional.loss import (
    cross_entropy,
    cross_entropy_gradient,
    mse_loss,
    mse_loss_gradient,
)
from tinyml.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d,
    adaptive_max_pool3d_with_indices,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_with_indices,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "cross_entropy",
    "cross_entropy_gradient",
    "elu",
    "elu_gradient",
    "gelu",
    "gelu_gradient",
    "leaky_relu",
    "leaky_relu_gradient",
    "log_softmax",
    "log_softmax_gradient",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mse_loss",
    "mse_loss_gradient",
    "prelu",
    "prelu_gradient",
    "relu",
    "relu_gradient",
    "sigmoid",
    "sigmoid_gradient",
    "silu",
    "silu_gradient",
    "softmax",
    "softmax_gradient",
    "tanh",
    "tanh_gradient",
]
