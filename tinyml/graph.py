"""Networks as graphs: each layer reads the outputs of earlier layers."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinyml.core.owner import Owner
from tinyml.layers.base import Dim, Layer, Tie, members, scope_of
from tinyml.layers.pooling import pooled_dims
from tinyml_backends import backend_for, owner_of
from tinyml_backends.arguments import lengths
from tinyml_backends.arrays import Array

#: The network that this thread runs. Networks inside it do not check the tree or provide memory:
#: the outermost one does so for all of them.
_outermost: "ContextVar[Graph | None]" = ContextVar("tinyml_outermost_network", default=None)


@dataclass(frozen=True, eq=False)
class Node:
    """A value inside a network: an input, or the output of a layer.

    Attributes
    ----------
    number : int
        Position among the network's nodes: its inputs, then the outputs in the order added.
    dim : tuple of int or None
        Shape of one sample, to build the next layer with; None if it is not known.
    """

    number: int
    dim: Dim | None


class Step(NamedTuple):
    """A layer, and the numbers of the nodes that it reads."""

    layer: Layer
    inputs: tuple[int, ...]


class Graph(Layer):
    """A network whose layers read the outputs of earlier layers; it is a layer itself.

    Layers run in the order in which they are added. A forward pass drops each value after the last
    layer that reads it, and a backward pass sums the gradients of a value that several layers read.
    An unpool layer that is tied to a pool layer of the same network (``pool=``) takes the switches
    that the pool layer saved in the same pass.

    In training mode, the thread of a forward pass owns the network until its backward pass is done.
    An error in a pass, `forget`, `eval`, `to` and the end of the thread release the network too.

    Parameters
    ----------
    name : str
    *input_dims : tuple of int
        Shape of one sample of each input, channels first, or None if it is not known. `add` checks
        layers with these shapes; a pass takes images of any size that the layers accept.

    Attributes
    ----------
    inputs : tuple of Node
    input : Node
        The first input.
    output : Node
        The node whose value ``forward`` returns: the one added last, unless another one is set.
    layers : tuple of Layer
        In the order added; `add` adds another one.
    steps : list of (layer, numbers)
        Each layer, and the numbers of the ``nodes`` that it reads.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.graph import Graph
    >>> from tinyml.layers import Add, Conv2D, ReLU
    >>> net = Graph("block", (1, 4, 4))
    >>> conv = net.add(Conv2D("conv", net.input.dim, 1, 3, padding=1, rng=0))
    >>> total = net.add(Add("add"), net.input, net.add(ReLU("relu")))
    >>> net(np.ones((2, 1, 4, 4), np.float32)).shape
    (2, 1, 4, 4)
    >>> net.backward(np.ones((2, 1, 4, 4), np.float32)).shape
    (2, 1, 4, 4)
    """

    def __init__(self, name: str, *input_dims: Dim | None) -> None:
        super().__init__(name)
        if not input_dims:
            raise ValueError(f"{self!r}: input_dims are missing; give one for each input")
        self.steps: list[Step] = []
        self._owner = Owner()
        self._workspace: Any = None
        self._shapes: tuple[object, ...] = ()
        self._chosen: Node | None = None
        self._plan: tuple[int, ...] | None = None
        dims = (None if dim is None else lengths("input_dims", dim, len(dim)) for dim in input_dims)
        self.inputs = tuple(Node(number, dim) for number, dim in enumerate(dims))
        self.nodes = list(self.inputs)
        if self.input.dim is not None:
            self.input_dim = self.input.dim

    # -- building ----------------------------------------------------------------------------

    @property
    def input(self) -> Node:
        """The first input."""
        return self.inputs[0]

    @property
    def output(self) -> Node:
        """The node that ``forward`` returns: the one added last, unless another one is set."""
        return self.nodes[-1] if self._chosen is None else self._chosen

    @output.setter
    def output(self, node: Node) -> None:
        self._chosen = self.nodes[self._number(node)]
        self._changed()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order added."""
        return tuple(step.layer for step in self.steps)

    def add(self, layer: Layer, *nodes: Node) -> Node:
        """Run ``layer`` on the values of ``nodes``, by default of the node added last.

        Without nodes, the first layer reads the first input.

        Returns
        -------
        Node
            The layer's output; build the next layer with ``node.dim``.

        Raises
        ------
        TypeError
            If ``layer`` is not a `Layer`, or a node is not a `Node`.
        ValueError
            If the layer, or one inside it, is in this network already; another layer has its name;
            a node belongs to another network; or the layer was built for other shapes than those
            of the nodes. The network is then unchanged.

        Examples
        --------
        >>> from tinyml.graph import Graph
        >>> from tinyml.layers import MaxPool2D
        >>> net = Graph("net", (3, 32, 32))
        >>> net.add(MaxPool2D("pool", net.input.dim, 2, 2)).dim
        (3, 16, 16)
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"layer is {layer!r}; it must be a Layer object")
        last = len(self.nodes) - 1 if self.steps else 0
        numbers = tuple(map(self._number, nodes)) or (last,)
        present = set(self.walk())
        twice = next((inside for inside in layer.walk() if inside in present), None)
        if twice is not None:
            raise ValueError(
                f"{twice!r} is in {self!r} already; a layer runs once in a pass: add another one, "
                "which may share its Parameters"
            )
        names = [other.name for other in self.layers]
        if layer.name in names:
            raise ValueError(
                f"layers of {self!r} are named {[*names, layer.name]}; each must have its own name"
            )
        dims = tuple(self.nodes[number].dim for number in numbers)
        _check_dims(layer, dims, [self._source(number) for number in numbers])
        node = Node(len(self.nodes), _output_dim(layer, dims))
        self.nodes.append(node)
        self.steps.append(Step(layer, numbers))
        self._changed()
        return node

    def _source(self, number: int) -> str:
        """What gives the value of a node, for messages."""
        step = number - len(self.inputs)
        return f"input {number}" if step < 0 else repr(self.steps[step].layer)

    def _changed(self) -> None:
        self._plan = None
        vars(self).pop("out_dim", None)
        if self.output.dim is not None:
            self.out_dim = self.output.dim

    def output_dim(self, *dims: Dim) -> Dim | None:
        """Shape of one output sample, given the shape of one sample of each input."""
        return self.trace(*dims)[1]

    def trace(self, *dims: Dim) -> tuple[list[tuple[Layer, tuple[Any, ...]]], Dim | None]:
        """Each layer that a pass runs with the shapes that it gets, and the output's shape."""
        self._check_count(len(dims))
        ran = []
        with nullcontext() if pooled_dims.get() is not None else _set(pooled_dims, {}):
            readers, known = self._readers(), dict[int, Dim | None](enumerate(dims))
            for number, step in enumerate(self.steps, len(dims)):
                if readers[number]:
                    ran.append((step.layer, tuple(known[i] for i in step.inputs)))
                    known[number] = _output_dim(*ran[-1])
        return ran, known[self.output.number]

    def _check_count(self, count: int) -> None:
        if count != len(self.inputs):
            raise TypeError(f"{self!r} takes {len(self.inputs)} inputs; got {count}")

    def _number(self, node: Node) -> int:
        if not isinstance(node, Node):
            raise TypeError(f"node is {node!r}; it must be a Node that add() returned, or an input")
        if node.number >= len(self.nodes) or self.nodes[node.number] is not node:
            raise ValueError(f"{node} is not a node of {self!r}")
        return node.number

    # -- running -----------------------------------------------------------------------------

    def forward(self, *inputs: Array) -> Array:
        """Value of the output node.

        Raises
        ------
        RuntimeError
            If another thread is running this network, or owns it in training mode.
        MixedBackendError
            If an input is on another device than the parameters; nothing is moved silently.
        ValueError, TypeError
            If a layer does not accept its input, a layer is tied to one outside this network, or no
            layer leads from an input to the output.
        """
        self._check_count(len(inputs))
        with self._owner.forward_pass(self), self._as_outermost(inputs):
            waiting = list(self._readers())
            values: dict[int, Any] = dict(enumerate(inputs))
            del inputs
            for number, step in enumerate(self.steps, len(self.inputs)):
                if waiting[number]:
                    values[number] = step.layer(*_take(values, waiting, step.inputs))
            return values[self.output.number]

    def backward(self, in_gradient: Array) -> Any:
        """Gradient with respect to the input, or a tuple with one for each of several inputs.

        Adds to the gradients of all parameters.

        Raises
        ------
        RuntimeError
            If there was no forward pass, or another thread is running this network or ran its last
            forward pass.
        """
        with self._owner.backward_pass(self), self._as_outermost(), scope_of(in_gradient):
            readers = self._readers()
            gradients: dict[int, Array] = {self.output.number: in_gradient}
            del in_gradient
            for number in reversed(range(len(self.inputs), len(self.nodes))):
                if readers[number]:
                    layer, inputs = self.steps[number - len(self.inputs)]
                    accumulate(gradients, inputs, layer, layer.backward(gradients.pop(number)))
            of_inputs = tuple(gradients[number] for number in range(len(self.inputs)))
            return of_inputs[0] if len(of_inputs) == 1 else of_inputs

    def release(self) -> None:
        """Let any thread run the network, and release the memory kept for training."""
        self._owner.release()
        self._workspace = None

    def check_owner(self) -> None:
        """Raise RuntimeError if another thread owns this network."""
        self._owner.check(self)

    def _readers(self) -> tuple[int, ...]:
        """For each node, how many layers that lead to the output read it; 1 more for the output."""
        if self._plan is None:
            counts = [0] * len(self.nodes)
            counts[self.output.number] = 1
            for number in reversed(range(len(self.inputs), len(self.nodes))):
                if counts[number]:
                    for i in self.steps[number - len(self.inputs)].inputs:
                        counts[i] += 1
            unused = [number for number in range(len(self.inputs)) if not counts[number]]
            if unused or not self.steps:
                first = unused[0] if unused else 0
                raise ValueError(f"{self!r}: no layer leads from input {first} to the output")
            self._plan = tuple(counts)
        return self._plan

    @contextmanager
    def _as_outermost(self, inputs: tuple[Array, ...] | None = None) -> Iterator[None]:
        """Context of a pass; it does nothing if this network is inside one that is running.

        Before a forward pass, which gives its ``inputs``, the tree is checked. In training mode,
        results take the memory of earlier results that are no longer referenced. After an error
        this thread owns none of the networks.
        """
        if _outermost.get() is not None:
            yield
            return
        with _set(_outermost, self):
            if inputs is not None:
                self._begin(inputs)
            try:
                with nullcontext() if self._workspace is None else self._workspace.in_use():
                    yield
            except BaseException:
                for layer in self.walk():
                    if isinstance(layer, Graph):
                        layer._owner.release_own()
                raise

    def _begin(self, inputs: tuple[Array, ...]) -> None:
        layers = tuple(self.walk())
        _check_tree(self, layers)
        for layer in layers:
            if isinstance(layer, Graph):  # before anything of its saved state is dropped
                layer.check_owner()
        for layer in layers:  # the pass replaces it; dropped now, its memory can be reused
            layer.saved = None
        shapes = tuple(getattr(x, "shape", None) for x in inputs)
        if shapes != self._shapes or not self.training:
            self._workspace, self._shapes = None, shapes
        if self.training and self._workspace is None:
            with suppress(TypeError):  # not an array; the first layer refuses it
                self._workspace = owner_of(inputs[0]).workspace()


def _output_dim(layer: Layer, dims: tuple[Dim | None, ...]) -> Dim | None:
    """Shape of one sample of a layer's output; None if it is not known."""
    return getattr(layer, "out_dim", None) if None in dims else layer.output_dim(*dims)


def _check_dims(layer: Layer, dims: tuple[Dim | None, ...], sources: list[str]) -> None:
    """Raise ValueError if a layer was built for other shapes than it gets."""
    wanted: tuple[Dim | None, ...] = (getattr(layer, "input_dim", None),)
    if isinstance(layer, Graph):
        wanted = tuple(node.dim for node in layer.inputs)
        if len(wanted) != len(dims):
            raise ValueError(f"{layer!r} takes {len(wanted)} inputs; got {len(dims)} nodes")
    else:
        try:
            inspect.signature(layer.forward).bind(*dims)
        except TypeError as error:
            raise ValueError(f"{layer!r} got {len(dims)} nodes; its forward has {error}") from None
    for built_for, given, source in zip(wanted, dims, sources, strict=False):
        if built_for is not None and given is not None and tuple(built_for) != given:
            raise ValueError(
                f"{layer!r} takes input_dim {tuple(built_for)}; {source} before it gives {given}"
                f"{'; put Flatten between them' if len(built_for) == 1 < len(given) else ''}"
            )


def _check_tree(network: Graph, layers: tuple[Layer, ...]) -> None:
    """Raise ValueError for a layer added twice, and for one tied to a layer outside the network."""
    added = [step.layer for graph in layers if isinstance(graph, Graph) for step in graph.steps]
    if len(set(added)) < len(added):
        twice = next(layer for layer in added if added.count(layer) > 1)
        raise ValueError(f"{twice!r} was added twice to {network!r}; a layer runs once in a pass")
    inside = set(layers)
    for layer in layers:
        for tie in members(layer):
            if isinstance(tie, Tie) and tie.layer not in inside:
                raise ValueError(
                    f"{layer!r} is tied to {tie.layer!r}, which is not in {network!r}; run a "
                    "network that has both"
                )


def _take(values: dict[int, Any], waiting: list[int], numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Return what a layer reads; drop from ``values`` what no later layer reads."""
    taken = tuple(values[number] for number in numbers)
    for number in numbers:
        waiting[number] -= 1
        if not waiting[number]:
            del values[number]
    return taken


def accumulate(sums: dict[int, Array], numbers: tuple[int, ...], layer: Layer, given: Any) -> None:
    """Add what the ``backward`` of a layer returned to the sums at the nodes that it reads."""
    of_inputs = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(of_inputs) != len(numbers) or any(gradient is None for gradient in of_inputs):
        returned = ", ".join(type(gradient).__name__ for gradient in of_inputs)
        raise ValueError(
            f"{layer!r}: backward returned ({returned}); it must return one array for each of "
            f"{len(numbers)} inputs"
        )
    for number, gradient in zip(numbers, of_inputs, strict=True):
        old = sums.get(number)
        both = (old, gradient)
        sums[number] = gradient if old is None else backend_for(*both).add(both)


@contextmanager
def _set(variable: "ContextVar[Any]", value: object) -> Iterator[None]:
    """Context in which ``variable`` has another value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
