"""Summaries of networks: shapes, parameters, multiply-adds and memory of every layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import tabulate

from tinyml.core.parameter import Parameter
from tinyml.graph import Graph
from tinyml.layers.adaptive import AdaptiveMaxPool2D
from tinyml.layers.base import Dim, Layer
from tinyml.layers.pooling import MaxPool2D, pooled_dims
from tinyml_backends.arguments import lengths

#: Bytes of a value of float32, and of an index of adaptive max-pooling.
_VALUE = 4
_INDEX = 8


@dataclass(frozen=True)
class Row:
    """A layer of a network, at given input shapes. Sizes are those of one sample."""

    name: str
    """Names down the tree, with dots between them."""
    type: str
    input_dims: tuple[Dim | None, ...]
    """Shape of each input; None if it is not known."""
    output_dim: Dim | None
    parameters: int
    """Learned numbers, without those that an earlier row has counted."""
    multiply_adds: int
    """Of the products with weights in a forward pass."""
    activation_bytes: int
    """The output in float32."""
    switch_bytes: int
    """Positions of maxima that a pooling layer keeps for unpooling and for its gradient."""


@dataclass(frozen=True)
class Summary:
    """What `Layer.summary` returns; ``str`` makes a table of it.

    Attributes
    ----------
    name : str
        Of the network.
    rows : tuple of Row
        In the order of a forward pass. The layers of a network inside another have rows of their
        own; any other layer is one row with all that is inside it.
    parameters, multiply_adds, activation_bytes, switch_bytes : int
        Sums over the rows.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Learned numbers; shared ones count once."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Of a forward pass of one sample."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """All outputs of one sample in float32; a training step keeps most of them."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def switch_bytes(self) -> int:
        """All switches of one sample."""
        return sum(row.switch_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ["layer", "type", "output", "parameters", "multiply-adds", "activations", "switches"]
        table = [[row.name, row.type, _shape(row.output_dim), *_numbers(row)] for row in self.rows]
        table += [tabulate.SEPARATING_LINE, [self.name, "", "", *_numbers(self)]]
        text: str = tabulate.tabulate(
            table, head, disable_numparse=True, colalign=("left",) * 3 + ("right",) * 4
        )
        return text + "\n(of one sample; activations and switches in bytes, float32)"


def summarize(model: Layer, dims: tuple[Dim, ...]) -> Summary:
    """Summary of a layer or network; see `Layer.summary`."""
    if not dims:
        dims = _built_for(model)
    token = pooled_dims.set({})  # an unpool layer may be in another network than its pool layer
    try:
        counted: set[Parameter] = set()
        dims = tuple(_checked(model, dim) for dim in dims)
        return Summary(model.name, tuple(_rows(model, dims, "", counted)))
    finally:
        pooled_dims.reset(token)


def _checked(model: Layer, dim: Any) -> Dim:
    if not hasattr(dim, "__len__"):
        raise TypeError(
            f"{model!r}: dims holds {dim!r}; it must hold the shape of one sample of each input, "
            "summary((3, 224, 224))"
        )
    return lengths(f"{model!r}: a shape in dims", dim, len(dim))


def _built_for(model: Layer) -> tuple[Dim, ...]:
    """Input shapes that a model was built for."""
    dims: list[Dim | None] = [getattr(model, "input_dim", None)]
    if isinstance(model, Graph):
        dims = [node.dim for node in model.inputs]
    if None in dims:
        raise ValueError(
            f"{model!r} was not built for a shape; give that of one sample of each input, "
            "summary((3, 224, 224))"
        )
    return tuple(dim for dim in dims if dim is not None)


def _rows(
    layer: Layer, dims: tuple[Any, ...], prefix: str, counted: set[Parameter]
) -> Iterator[Row]:
    """Rows of a layer that gets inputs of these shapes."""
    if isinstance(layer, Graph) and None not in dims:
        for inside, taken in layer.trace(*dims)[0]:
            name = f"{prefix}.{inside.name}" if prefix else inside.name
            yield from _rows(inside, taken, name, counted)
        return
    known = None not in dims
    out: Any = layer.output_dim(*dims) if known else getattr(layer, "out_dim", None)
    parameters = [p for p in layer.parameters if p not in counted]
    counted.update(parameters)
    count = prod(out) if out is not None else 0
    switch_bytes = 0
    if isinstance(layer, MaxPool2D):
        switch_bytes = count * layer.window.winner_dtype.itemsize
    elif isinstance(layer, AdaptiveMaxPool2D):
        switch_bytes = count * _INDEX
    yield Row(
        prefix or layer.name,
        layer.type,
        dims,
        out,
        sum(int(p.tensor.size) for p in parameters),
        layer.multiply_adds(*dims) if known else 0,
        count * _VALUE,
        switch_bytes,
    )


def _shape(dim: Dim | None) -> str:
    return "?" if dim is None else "×".join(map(str, dim))


def _numbers(sizes: Row | Summary) -> list[str]:
    numbers = sizes.parameters, sizes.multiply_adds, sizes.activation_bytes, sizes.switch_bytes
    return [f"{n:,}" if n else "" for n in numbers]
