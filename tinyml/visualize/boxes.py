"""The part of the image that one output position depends on, exactly."""

from math import ceil, floor, inf

from tinyml.fields import POINT, ReceptiveField, after
from tinyml.flat import Flat, FlatStep
from tinyml.layers.adaptive import AdaptivePool
from tinyml.layers.unpooling import MaxUnpool2D

#: First and last position along each spatial axis.
Interval = tuple[int, int]
Box = tuple[slice, ...]


class Boxes:
    """Boxes of the image that positions of a layer's output depend on.

    The box of a position is found backwards, layer by layer: the first and the last position that
    a layer reads, cut off at the borders of its input. Where branches meet it is the smallest box
    that holds those of all branches. `tinyml.receptive_field` is the bound for all positions.

    Parameters
    ----------
    flat : Flat
    node : int
        The layer's output.
    shapes : dict of int to tuple of int
        Shape of the value of each node that leads to it, samples and channels included.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import lenet
    >>> from tinyml.visualize.boxes import Boxes
    >>> from tinyml.visualize.run import Run
    >>> run = Run(lenet((1, 28, 28), 10))
    >>> node = run.node("pool1")
    >>> _ = run.forward(np.zeros((1, 1, 28, 28)), node)
    >>> Boxes(run.flat, node, run.shapes)((0, 5))
    (slice(0, 4, None), slice(8, 14, None))
    """

    def __init__(self, flat: Flat, node: int, shapes: dict[int, tuple[int, ...]]) -> None:
        self._node = node
        self._steps = [
            (step, [_field_of(step, len(shapes[i]) - 2) for i in step.inputs])
            for step in reversed(flat.leading_to(node))
        ]
        self._spatial = {number: shape[2:] for number, shape in shapes.items()}
        self._output_of = {step.layer: step.output for step in flat.steps}
        self._known: dict[tuple[int, ...], Box] = {}

    def __call__(self, position: tuple[int, ...]) -> Box:
        """Box of a position, a slice for each axis of the image; empty if it sees only padding."""
        if position not in self._known:
            self._known[position] = self._box(position)
        return self._known[position]

    def _box(self, position: tuple[int, ...]) -> Box:
        wanted: dict[int, list[Interval]] = {self._node: [(i, i) for i in position]}
        for step, fields in self._steps:
            if step.output not in wanted:
                continue
            outputs = wanted.pop(step.output)
            for number, field in zip(step.inputs, fields, strict=True):
                read = self._read(step, number, field, outputs)
                self._add(wanted, number, read)
                pool = step.layer.pool if isinstance(step.layer, MaxUnpool2D) else None
                if pool in self._output_of:  # the switches come from windows at the same places
                    self._add(wanted, self._output_of[pool], read)
        first = wanted.get(0, [(0, -1)] * len(self._spatial[0]))
        return tuple(slice(low, max(low, high + 1)) for low, high in first)

    def _read(
        self, step: FlatStep, number: int, fields: tuple[ReceptiveField, ...], of: list[Interval]
    ) -> list[Interval]:
        """What a layer reads of a node, for positions of its output."""
        lengths = self._spatial[number]
        read = []
        for axis, (field, n) in enumerate(zip(fields, lengths, strict=True)):
            if isinstance(step.layer, AdaptivePool):
                low, high = of[axis]
                count = self._spatial[step.output][axis]
                read.append((low * n // count, -(-(high + 1) * n // count) - 1))
            elif field.first == -inf:
                read.append((0, n - 1))
            else:
                low, high = of[axis]
                first, last = ceil(field.step * low + field.first), field.step * high + field.last
                read.append((max(first, 0), min(floor(last), n - 1)))
        return read

    def _add(self, wanted: dict[int, list[Interval]], number: int, read: list[Interval]) -> None:
        if any(low > high for low, high in read):
            return  # only padding is read
        old = wanted.get(number, read)
        wanted[number] = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(old, read, strict=True)]


def _field_of(step: FlatStep, axes: int) -> tuple[ReceptiveField, ...]:
    """Field of one position of a layer's output in its input; a user's own layer may read all."""
    try:
        return after(step.layer, [(POINT,) * axes], {})
    except TypeError:
        return (ReceptiveField(POINT.step, -inf, inf),) * axes
