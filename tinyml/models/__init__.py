"""Functions that build complete networks: each takes the input's shape and the classes."""

from tinyml.models.classifiers import inverse_vgg, lenet, mlp, vgg11, vgg13, vgg16, vgg19
from tinyml.models.enet import enet
from tinyml.models.resnet import resnet18, resnet34, resnet50
from tinyml.models.segnet import segnet, segnet_vgg16
from tinyml.models.unet import autoencoder, unet

__all__ = [
    "autoencoder",
    "enet",
    "inverse_vgg",
    "lenet",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "segnet",
    "segnet_vgg16",
    "unet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]
