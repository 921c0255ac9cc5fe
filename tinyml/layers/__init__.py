"""Layers: one file for each family, each a page of mathematics."""

from tinyml.layers.base import Layer
from tinyml.layers.pooling import MaxPool2D
from tinyml.layers.unpooling import MaxUnpool2D

__all__ = ["Layer", "MaxPool2D", "MaxUnpool2D"]
