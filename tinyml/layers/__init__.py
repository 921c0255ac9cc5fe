"""Layers: one module for each family."""

from tinyml.layers.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    ReLu,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from tinyml.layers.adaptive import (
    AdaptiveAvgPool1D,
    AdaptiveAvgPool2D,
    AdaptiveAvgPool3D,
    AdaptiveMaxPool1D,
    AdaptiveMaxPool2D,
    AdaptiveMaxPool3D,
)
from tinyml.layers.base import Layer
from tinyml.layers.batch_norm import BatchNorm1D, BatchNorm2D, BatchNorm3D
from tinyml.layers.convolution import (
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Deconv2D,
)
from tinyml.layers.dropout import Dropout, Dropout2D
from tinyml.layers.join import Add, Concat
from tinyml.layers.layer_norm import GroupNorm, LayerNorm
from tinyml.layers.linear import Linear
from tinyml.layers.pooling import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool2D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from tinyml.layers.shape import Flatten, PadChannels2D, Reshape
from tinyml.layers.unpooling import MaxUnpool1D, MaxUnpool2D, MaxUnpool3D
from tinyml.layers.upsample import Upsample

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool1D",
    "AdaptiveAvgPool2D",
    "AdaptiveAvgPool3D",
    "AdaptiveMaxPool1D",
    "AdaptiveMaxPool2D",
    "AdaptiveMaxPool3D",
    "Add",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNorm1D",
    "BatchNorm2D",
    "BatchNorm3D",
    "Concat",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "Deconv2D",
    "Dropout",
    "Dropout2D",
    "Flatten",
    "GlobalAvgPool2D",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxUnpool1D",
    "MaxUnpool2D",
    "MaxUnpool3D",
    "PReLU",
    "PadChannels2D",
    "ReLU",
    "ReLu",
    "Reshape",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Upsample",
]
