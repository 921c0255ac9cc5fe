"""Optimizers: how gradients change parameters.

What an optimizer keeps for a parameter, such as its velocity, is in ``parameter.state``, so that it
moves with the parameter. It is dropped when another optimizer updates the parameter: a new
optimizer starts afresh, also on a trained model. The same optimizer goes on where it stopped.

The rules are on the page docs/optimizers.md.
"""

from tinyml.optims.adam import Adam, AdamW
from tinyml.optims.base import Optimizer
from tinyml.optims.groups import ParameterGroups
from tinyml.optims.scaled import Adagrad, RMSprop
from tinyml.optims.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "ParameterGroups", "RMSprop"]
