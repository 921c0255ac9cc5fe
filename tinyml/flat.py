"""A network with the networks inside it taken apart: single layers, each with a full name."""

from difflib import get_close_matches
from typing import NamedTuple, TypeGuard

from tinyml.graph import Graph
from tinyml.layers.base import Layer
from tinyml.layers.unpooling import MaxUnpool2D


class FlatStep(NamedTuple):
    """A layer, the numbers of the nodes that it reads, and the number of its output."""

    layer: Layer
    inputs: tuple[int, ...]
    output: int


class Flat:
    """The layers of a network in the order of its forward pass.

    A network inside the network is replaced by its layers, unless it has a ``forward`` of its own.
    Any other layer stays whole, whatever it contains.

    Parameters
    ----------
    model : Layer

    Attributes
    ----------
    inputs : int
        Number of inputs, which are the first nodes.
    steps : list of FlatStep
        In the order in which they run; their outputs have increasing numbers.
    output : int
        Number of the node that is the network's output.
    nodes : dict of str to int
        Number of the output of each layer. The name of a layer of a network inside the network is
        the names of both, "block1_1.conv1".
    layers : dict of str to Layer
        The layers under the same names, networks inside the network too.

    Examples
    --------
    >>> from tinyml.flat import Flat
    >>> from tinyml.models import resnet18
    >>> list(Flat(resnet18((1, 32, 32), 3, width=1)).nodes)[3:7]
    ['pool', 'block1_1', 'block1_1.conv1', 'block1_1.norm1']
    """

    def __init__(self, model: Layer) -> None:
        self.model = model
        self.inputs = len(model.inputs) if isinstance(model, Graph) else 1
        self.steps: list[FlatStep] = []
        self.nodes: dict[str, int] = {}
        self.layers: dict[str, Layer] = {}
        self._count = self.inputs
        inputs = tuple(range(self.inputs))
        if _is_plain(model):
            self.output = self._inline(model, inputs, "")
        else:
            self.output = self._add(model, inputs, model.name)

    def _inline(self, graph: Graph, inputs: tuple[int, ...], prefix: str) -> int:
        known = list(inputs)
        for layer, numbers in graph.steps:
            known.append(self._add(layer, tuple(known[i] for i in numbers), prefix + layer.name))
        return known[graph.output.number]

    def _add(self, layer: Layer, inputs: tuple[int, ...], name: str) -> int:
        self.layers[name] = layer
        self.nodes[name] = -1  # a network is listed before its layers
        if _is_plain(layer):
            node = self._inline(layer, inputs, f"{name}.")
        else:
            node = self._count
            self._count += 1
            self.steps.append(FlatStep(layer, inputs, node))
        self.nodes[name] = node
        return node

    def name_of(self, layer: str | Layer) -> str:
        """Name of a layer that is given by its name or as the object.

        Raises
        ------
        ValueError
            If there is no such layer; the message has the closest names.
        """
        if isinstance(layer, Layer):
            for name, other in self.layers.items():
                if other is layer:
                    return name
        elif layer in self.layers:
            return layer
        close = get_close_matches(str(layer), self.layers, n=3) if len(self.layers) > 20 else []
        outer = (name for name in self.layers if "." not in name)
        names = f"the closest are {', '.join(close)}" if close else f"it has {', '.join(outer)}"
        raise ValueError(f"layer is {layer!r}, which {self.model!r} lacks; {names}")

    def leading_to(self, *nodes: int) -> list[FlatStep]:
        """The steps that some nodes depend on, in order.

        An unpooling layer depends on its pooling layer too.
        """
        output_of = {step.layer: step.output for step in self.steps}
        wanted, found = set(nodes), list[FlatStep]()
        for step in reversed(self.steps):
            if step.output in wanted:
                found.append(step)
                wanted.update(step.inputs)
                if isinstance(step.layer, MaxUnpool2D) and step.layer.pool in output_of:
                    wanted.add(output_of[step.layer.pool])
        return found[::-1]


def _is_plain(layer: Layer) -> TypeGuard[Graph]:
    """Whether a layer is a network that runs its steps and does nothing else."""
    return isinstance(layer, Graph) and type(layer).forward is Graph.forward
