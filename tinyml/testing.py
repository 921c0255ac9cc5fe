"""Check of derivatives by central differences, for layers and losses of your own."""

import copy
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from tinyml.arrays import asarray, to_numpy, zeros_like
from tinyml.layers.base import Layer
from tinyml_backends.arguments import lengths
from tinyml_backends.arrays import Array


def gradient_check(
    layer_or_loss: Any,
    input_shape: Sequence[int],
    *,
    target: Array | None = None,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    most: int = 200,
    seed: int = 0,
) -> int:
    """Compare ``backward`` with central differences of ``forward``, in float64.

    The input is normally distributed, on the selected backend. A derivative is left out where
    differences of two widths disagree, as next to a kink of ReLU, or those to both sides, as at the
    kink. The layer or loss is not changed: a copy is checked.

    Parameters
    ----------
    layer_or_loss : Layer, or object with ``forward(output, target)`` and ``backward()``
        A layer of one input. One that draws random numbers must be in eval mode.
    input_shape : sequence of int
        Shape of the input, samples included.
    target : array
        Of a loss.
    step : float
        Half the width of a difference; the other width is half as large.
    tolerance : float
        Largest difference, relative to numbers above 1.
    most : int
        Number of elements of the input, and of each parameter, that are compared; if there are
        more, they are drawn.
    seed : int
        Of all that is drawn.

    Returns
    -------
    int
        How many derivatives were compared.

    Raises
    ------
    AssertionError
        If derivatives are wrong; it names the array, the element and both values of the worst.
        Also if an output or any element of a gradient is NaN or infinite, or if more than half of
        an array's derivatives were left out.
    ValueError
        If two forward passes differ, or a loss has no target.

    Examples
    --------
    >>> from tinyml.layers import Conv2D
    >>> from tinyml.testing import gradient_check
    >>> gradient_check(Conv2D("conv", (2, 4, 4), 3, 3), (2, 2, 4, 4))
    121
    """
    rng = np.random.default_rng(seed)
    x = asarray(rng.standard_normal(lengths("input_shape", input_shape, len(input_shape))))
    checked = copy.deepcopy(layer_or_loss)
    is_layer = isinstance(checked, Layer)
    if is_layer:
        _to_float64(checked)
    elif target is None:
        raise ValueError(f"target is missing; the loss {layer_or_loss!r} needs one")

    def forward(x: Array) -> Any:
        return checked(x) if is_layer else checked.forward(x, target)

    y = forward(x)
    weights = rng.standard_normal(y.shape) if is_layer else 1.0

    def value() -> Any:
        y = forward(x)
        return float((np.asarray(to_numpy(y), np.float64) * weights).sum()) if is_layer else y

    first = value()
    if not isfinite(first):
        raise AssertionError(f"{layer_or_loss!r}: the output, or its sum, is {first}")
    if first != value():
        raise ValueError(f"two forward passes of {layer_or_loss!r} differ; put it in eval mode")
    of_input = checked.backward(asarray(weights)) if is_layer else checked.backward()
    pairs = {"the input": (x, of_input)}
    if is_layer:
        pairs |= {name: (p.tensor, p.gradient) for name, p in _named_parameters(checked)}
    # copies, since a difference runs forward again
    gradients = {name: to_numpy(gradient).copy() for name, (_, gradient) in pairs.items()}
    compared, wrong = 0, []
    for name, (array, _) in pairs.items():
        title = f"{layer_or_loss!r}: gradient of {name}"
        _check_finite(title, gradients[name], array.shape)
        places = _drawn(array, most, rng)
        count, found = _compare(title, array, gradients[name], value, places, step, tolerance)
        compared += count
        wrong += found
    if wrong:
        text = max(wrong)[1]
        raise AssertionError(
            text if len(wrong) == 1 else f"{text}; the worst of {len(wrong)} wrong derivatives"
        )
    return compared


def _check_finite(name: str, gradient: Any, shape: tuple[int, ...]) -> None:
    if gradient.shape != shape:
        raise AssertionError(f"{name} has shape {gradient.shape}; it must be {shape}")
    bad = ~np.isfinite(gradient)
    if bad.any():
        place = tuple(map(int, np.argwhere(bad)[0]))
        raise AssertionError(f"{name}{list(place)} is {float(gradient[place])}; it must be finite")


def _compare(
    name: str,
    array: Array,
    gradient: Any,
    value: Callable[[], float],
    places: list[Any],
    step: float,
    tolerance: float,
) -> tuple[int, list[tuple[float, str]]]:
    """Number of derivatives that were compared; for each wrong one its error and a sentence."""

    def slopes(place: Any, width: float) -> tuple[float, float]:
        """Of the line through both sides, and by how much it changes between the sides."""
        start = float(array[place])
        array[place] = start + width
        above = value()
        array[place] = start - width
        below = value()
        array[place] = start
        return (above - below) / (2 * width), (above - 2 * here + below) / width

    compared, wrong = 0, []
    here = value()
    for place in places:
        (wide, wide_change), (slope, change) = slopes(place, step), slopes(place, step / 2)
        allowed = tolerance * max(1.0, abs(slope))
        # where the function is smooth, the change halves with the width
        has_kink = abs(change) > max(allowed, 0.75 * abs(wide_change))
        if has_kink or not abs(wide - slope) <= allowed:
            continue  # no derivative here
        compared += 1
        ours = float(gradient[place])
        if abs(ours - slope) > allowed:
            index = list(map(int, place))
            text = f"{name}{index} is {ours}; differences give {slope}"
            wrong.append((abs(ours - slope) / allowed, text))
    if places and compared * 2 < len(places) and not wrong:
        raise AssertionError(
            f"{name}: {len(places) - compared} of {len(places)} points have no derivative"
        )
    return compared, wrong


def _drawn(array: Array, most: int, rng: np.random.Generator) -> list[Any]:
    """Indices of at most ``most`` elements."""
    places = list(np.ndindex(array.shape))
    chosen = sorted(rng.permutation(len(places))[:most])
    return [places[number] for number in chosen]


def _to_float64(layer: Layer) -> None:
    parameters = layer.parameters
    for buffer in (*layer.buffers, *parameters):
        buffer.tensor = buffer.tensor.astype(np.float64)
    for parameter in parameters:
        parameter.gradient = zeros_like(parameter.tensor)


def _named_parameters(layer: Layer) -> list[tuple[str, Any]]:
    """Every parameter, and its name: its layer's and its attribute's."""
    names: dict[int, str] = {}
    for owner in layer.walk():
        for attribute, found in vars(owner).items():
            names.setdefault(id(found), f"{owner.name}.{attribute}")
    return [(names.get(id(p), f"parameter {n}"), p) for n, p in enumerate(layer.parameters)]
