"""Pictures of what a network sees. The mathematics is on the page docs/deconvnet.md."""

from tinyml.visualize.deconvolution import deconvnet
from tinyml.visualize.top import TopActivation, top_activations

__all__ = ["TopActivation", "deconvnet", "top_activations"]
