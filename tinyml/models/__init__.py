"""Networks ready to train."""

from tinyml.models.segnet import segnet

__all__ = ["segnet"]
