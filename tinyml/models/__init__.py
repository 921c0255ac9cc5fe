"""Functions that build complete networks."""

from tinyml.models.segnet import segnet

__all__ = ["segnet"]
