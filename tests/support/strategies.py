"""Hypothesis strategies: geometries, values with ties and special values, memory layouts."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from support import reference

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@st.composite
def geometries(draw, symmetric=False, valid=True):
    """Spatial shape, and a geometry; unless ``valid`` is false, the geometry fits the shape."""
    n = draw(st.sampled_from([1, 2, 2, 2, 3]))
    small = {1: 9, 2: 7, 3: 5}[n]

    def per_axis(strategy):
        return draw(st.tuples(*[strategy] * n))

    size = per_axis(st.integers(1, 3 if n == 3 else 4))
    dilation = per_axis(st.sampled_from([1, 1, 1, 2, 3]))
    if symmetric:  # what PyTorch accepts: at most half the size, the same before and after
        padding = tuple((p, p) for p in (draw(st.integers(0, k // 2)) for k in size))
    else:
        pads = st.sampled_from([0, 0, 0, 1, 2, 3])
        padding = per_axis(st.tuples(pads, pads))
    geometry = {
        "size": size,
        "stride": per_axis(st.integers(1, 4)),
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
    }
    shape = tuple(
        draw(st.integers(max(1, d * (k - 1) + 1 - sum(p)), small + d * (k - 1)))
        for k, d, p in zip(size, dilation, padding, strict=True)
    )
    if not valid:
        return tuple(draw(st.integers(1, n)) for n in shape), geometry
    assume(reference.output_shape(shape, **geometry) is not None)
    return shape, geometry


@st.composite
def arrays(draw, shape, dtypes=FLOATS + INTEGERS):
    """Array with ties, extreme and special values, in a drawn memory layout."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["ties", "specials", "lowest", "distinct", "random"]))
    if kind == "distinct":
        values = (
            (rng.permutation(int(np.prod(shape))) % _largest(dtype)).astype(dtype).reshape(shape)
        )
    elif kind == "random":  # sums depend on their order
        values = (50 * rng.standard_normal(shape)).astype(dtype.str.replace("u", "i")).astype(dtype)
    else:
        values = rng.choice(_alphabet(dtype, kind), shape)
    return laid_out(values, draw(st.sampled_from(["C", "F", "strided", "reversed"])))


def _largest(dtype):
    highest = np.iinfo(dtype).max if dtype.kind in "iu" else np.finfo(dtype).max
    return min(int(highest), 2**62)


def _alphabet(dtype, kind):
    if dtype.kind == "f":
        lowest = -np.inf
        nans = np.array([0x01, 0x03], f"u{dtype.itemsize}") | np.array(
            [np.nan, -np.nan], dtype
        ).view(f"u{dtype.itemsize}")
        specials = np.concatenate(
            [np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 0.1], dtype), nans.view(dtype)]
        )
    else:
        info = np.iinfo(dtype)
        lowest = info.min
        specials = np.array([info.min, info.max, 0, 1, info.max - 1], dtype)
    return {
        "ties": np.array([0, 1, 1, 2], dtype),
        "specials": specials,
        "lowest": np.array([lowest, lowest, lowest, 0], dtype),
    }[kind]


def laid_out(values, layout):
    """The same values in another memory layout."""
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "strided":
        wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "reversed":
        return values[..., ::-1].copy()[..., ::-1]
    return values
