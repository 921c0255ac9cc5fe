"""Layers: one file for each family, each a page of mathematics."""

from tinyml.layers.activation import ReLU
from tinyml.layers.base import Layer
from tinyml.layers.batch_norm import BatchNorm2D
from tinyml.layers.convolution import Conv2D
from tinyml.layers.pooling import MaxPool2D
from tinyml.layers.unpooling import MaxUnpool2D

__all__ = ["BatchNorm2D", "Conv2D", "Layer", "MaxPool2D", "MaxUnpool2D", "ReLU"]
