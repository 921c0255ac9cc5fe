"""Receptive fields: which part of the input an output depends on, from the layers' geometry."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, lcm

from tinyml.flat import Flat
from tinyml.layers.activation import Activation, PReLU, Softmax
from tinyml.layers.base import Layer
from tinyml.layers.batch_norm import BatchNorm
from tinyml.layers.convolution import Convolution, ConvTranspose2D
from tinyml.layers.dropout import Dropout
from tinyml.layers.join import Add, Concat
from tinyml.layers.pooling import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from tinyml.layers.shape import PadChannels2D
from tinyml.layers.unpooling import MaxUnpool2D
from tinyml.layers.upsample import Upsample

#: Layers in eval mode whose output at a pixel depends on the input at that pixel only.
_POINTWISE = (Activation, PReLU, BatchNorm, Dropout, Add, Concat, PadChannels2D)


@dataclass(frozen=True)
class ReceptiveField:
    """Input positions that an output position ``i`` depends on, along one spatial axis.

    They lie from ``step · i + first`` to ``step · i + last``, inside of the input.

    Attributes
    ----------
    step : Fraction
        Distance between the fields of two neighbours; 1 over a whole number where a network
        enlarges its input.
    first, last : Fraction or float
        Infinite if everything along the axis matters.
    """

    step: Fraction
    first: Fraction | float
    last: Fraction | float

    @property
    def size(self) -> float:
        """Number of input positions of an output position: at most so many."""
        if self.first == -inf:
            return inf
        return int(self.last - self.first) + 1

    @property
    def margin(self) -> float:
        """Positions on either side that an output needs beside its own place: at most so many."""
        return inf if self.first == -inf else max(-(self.first // 1), -(-self.last // 1), 0)


_WHOLE = ReceptiveField(Fraction(1), -inf, inf)
POINT = ReceptiveField(Fraction(1), Fraction(0), Fraction(0))
_Fields = tuple[ReceptiveField, ...]


def receptive_field(model: Layer, layer: str | Layer | None = None) -> _Fields:
    """Receptive field of a layer's output in a network, for each spatial axis.

    In eval mode; in training, batch norm makes every output depend on the whole batch. Araujo,
    Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

    Parameters
    ----------
    model : Layer
        A network, or a single layer.
    layer : str or Layer, optional
        A layer of the network, or its name; by default the one of the output. "block1_1.conv1" is
        in a network inside the network.

    Returns
    -------
    tuple of ReceptiveField
        One for each axis of images. An unpooling layer depends on the values that it places and on
        the windows of its pooling layer.

    Raises
    ------
    ValueError
        If there is no such layer.
    TypeError
        If there is a layer whose geometry is not known: one of the user's own.

    Examples
    --------
    >>> import tinyml
    >>> from tinyml.models import vgg16
    >>> field, _ = tinyml.receptive_field(vgg16((3, 32, 32), 10, width=1, hidden=1), "conv5_3")
    >>> field.size, field.step
    (196, Fraction(16, 1))
    """
    node = None
    if layer is not None:
        flat = Flat(model)
        node = flat.nodes[flat.name_of(layer)]
    return fields_and_grid(model, node)[0]


def fields_and_grid(model: Layer, node: int | None = None) -> tuple[_Fields, tuple[int, ...]]:
    """Fields of a node of a network, by default of its output, and the network's coarsest steps.

    If an image is cut at multiples of these, its windows stay the same.
    """
    axes = max((layer.axes for layer in model.walk() if hasattr(layer, "axes")), default=2)
    flat = Flat(model)
    node = flat.output if node is None else node
    known = dict.fromkeys(range(flat.inputs), (POINT,) * axes)
    seen: dict[Layer, _Fields] = {}
    for layer, inputs, output in flat.steps:
        if output <= node:
            known[output] = seen[layer] = after(layer, [known[i] for i in inputs], seen)
    steps = zip(*([field.step for field in found] for found in seen.values()), strict=True)
    return known[node], tuple(lcm(*(step.numerator for step in of_axis)) for of_axis in steps)


def after(layer: Layer, fields: list[_Fields], seen: dict[Layer, _Fields]) -> _Fields:
    """Fields of the output of a layer that is no network."""
    before = tuple(map(_union, zip(*fields, strict=True)))
    if isinstance(layer, Softmax) and layer.axis not in (1, 1 - 2 - len(before)):
        return (_WHOLE,) * len(before)
    if isinstance(layer, _POINTWISE):
        return before
    if isinstance(layer, GlobalAvgPool2D):
        return (_WHOLE,) * len(before)
    if isinstance(layer, Upsample):
        factors = layer.scale_factor or ()
        if not factors or layer.align_corners or any(f != int(f) for f in factors):
            return (_WHOLE,) * len(before)  # where the cells lie depends on the image's size
        pairs = zip(before, map(int, factors), strict=True)
        return tuple(_enlarged(field, factor, layer.mode) for field, factor in pairs)
    if isinstance(layer, Convolution | MaxPool2D | AvgPool2D | MaxUnpool2D):
        spreads = isinstance(layer, ConvTranspose2D | MaxUnpool2D)
        window = layer.window
        geometry = window.size, window.stride, window.dilation, window.padding
        per_axis = zip(before, *geometry, strict=True)
        make = _spread if spreads else _gathered
        result = tuple(make(f, d * (k - 1), s, p) for f, k, s, d, (p, _) in per_axis)
        if isinstance(layer, MaxUnpool2D) and layer.pool in seen:
            of_pool = zip(seen[layer.pool], *geometry, strict=True)
            switches = (_spread(f, d * (k - 1), s, p) for f, k, s, d, (p, _) in of_pool)
            result = tuple(map(_union, zip(result, switches, strict=True)))
        return result
    if type(layer).__module__.partition(".")[0] == "tinyml":
        return (_WHOLE,) * len(before)  # layer norm, linear layers, adaptive pooling and the like
    raise TypeError(f"the geometry of {layer!r} is not known; its receptive field may be anything")


def _union(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Smallest field that holds several."""
    if len({field.step for field in fields}) > 1 or _WHOLE in fields:
        return _WHOLE
    firsts, lasts = [field.first for field in fields], [field.last for field in fields]
    return ReceptiveField(fields[0].step, min(firsts), max(lasts))


def _gathered(field: ReceptiveField, span: int, stride: int, padding: int) -> ReceptiveField:
    """Of a window that begins at ``stride · i − padding`` and ends ``span`` later."""
    if field.first == -inf:
        return field
    first = field.first - field.step * padding
    return ReceptiveField(field.step * stride, first, field.last + field.step * (span - padding))


def _spread(field: ReceptiveField, span: int, stride: int, padding: int) -> ReceptiveField:
    """Of the windows of all inputs that reach an output: the adjoint of `_gathered`."""
    if field.first == -inf:
        return field
    first = field.first + field.step * Fraction(padding - span, stride)
    last = field.last + field.step * Fraction(padding, stride)
    return ReceptiveField(field.step / stride, first, last)


def _enlarged(field: ReceptiveField, factor: int, mode: str) -> ReceptiveField:
    if field.first == -inf:
        return field
    more = 0 if mode == "nearest" else 1  # linear interpolation reads both neighbours
    first = field.first + field.step * (Fraction(1 - factor, factor) - more)
    return ReceptiveField(field.step / factor, first, field.last + field.step * more)
