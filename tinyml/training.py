"""What `Learner` remembers of a training, and what it restores after an error."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyml.core.parameter import Parameter
from tinyml.graph import Graph
from tinyml.layers.base import Layer
from tinyml_backends.arrays import quiet


@dataclass(frozen=True)
class Position:
    """Where a training stands, after its last whole step, as plain data.

    Together with the model (parameters, what the optimizer keeps for them, buffers, and the
    generators of layers such as dropout), the optimizer and the history, it is all that
    ``fit(…, start=position)`` needs to go on as if the training had never stopped.

    Attributes
    ----------
    epoch : int
        The epoch that goes on, from 1; one more than ``epochs`` at the end.
    batches : int
        Batches of that epoch that have been used.
    rng : dict
        State of the shuffling generator at the beginning of that epoch: the ``state`` of a NumPy
        bit generator, which holds only dicts, ints and strings.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.training import Position
    >>> rng = np.random.default_rng(0)
    >>> Position(epoch=1, batches=0, rng=rng.bit_generator.state).rng["bit_generator"]
    'PCG64'
    """

    epoch: int
    batches: int
    rng: dict[str, Any]


class Snapshot:
    """What a forward pass changes in a model: buffers, and the state of random generators.

    Parameters
    ----------
    model : Layer
    layers : iterable of Layer, optional
        ``model.walk()``, where the caller has it already.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Dropout
    >>> from tinyml.training import Snapshot
    >>> dropout, x = Dropout("dropout", rng=0), np.ones((1, 100))
    >>> before = Snapshot(dropout)
    >>> first = dropout(x)
    >>> before.restore()
    >>> bool((dropout(x) == first).all())
    True
    """

    def __init__(self, model: Layer, layers: Iterable[Layer] | None = None) -> None:
        layers = model.walk() if layers is None else layers
        self._buffers = [(buffer, buffer.tensor.copy()) for buffer in model.buffers]
        self._states = [(rng, rng.bit_generator.state) for rng in generators(layers)]

    def restore(self) -> None:
        """Set everything to what it was."""
        for buffer, tensor in self._buffers:
            buffer.tensor = tensor
        for rng, state in self._states:
            rng.bit_generator.state = state


def generators(layers: Iterable[Layer]) -> list[np.random.Generator]:
    """Random generators in the attributes of layers, each once, in the order of the layers.

    Examples
    --------
    >>> from tinyml.layers import Dropout
    >>> from tinyml.training import generators
    >>> len(generators(Dropout("dropout").walk()))
    1
    """
    found = {
        id(value): value
        for layer in layers
        for value in vars(layer).values()
        if isinstance(value, np.random.Generator)
    }
    return list(found.values())


@contextmanager
def eval_mode(model: Layer) -> Iterator[None]:
    """Context in which a model is in eval mode; the mode of each layer is restored afterwards."""
    layers = list(model.walk())
    check_owner(layers)
    modes = [(layer, layer.training) for layer in layers]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def check_owner(layers: Iterable[Layer]) -> None:
    """Raise RuntimeError if another thread owns one of the layers that are networks."""
    for layer in layers:
        if isinstance(layer, Graph):
            layer.check_owner()


@quiet
def total_gradient(parameters: list[Parameter]) -> float:
    """Sum of all gradients; one number, so that the CPU waits for a GPU only once."""
    return float(sum(p.gradient.sum() for p in parameters))
