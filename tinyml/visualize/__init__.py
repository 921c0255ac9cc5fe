"""Pictures of what a network sees. The mathematics is on the page docs/deconvnet.md."""

from tinyml.visualize.deconvolution import deconvnet

__all__ = ["deconvnet"]
