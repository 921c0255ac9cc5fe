"""Losses.

``forward(output, target)`` returns a float, and ``backward()`` the gradient of the last forward
pass with respect to the output. The derivations are on the page docs/losses.md.
"""

from tinyml.losses.combined import Dice, Sum
from tinyml.losses.cross_entropy import SoftmaxCrossEntropy
from tinyml.losses.elementwise import L1, MSE, BCEWithLogits, Huber

__all__ = ["L1", "MSE", "BCEWithLogits", "Dice", "Huber", "SoftmaxCrossEntropy", "Sum"]
