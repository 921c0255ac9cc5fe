"""Kernels of weighted sums along an axis.

Arrays are (outer, length, inner), flat; tables are (results, terms), flat. Sums begin with −0.0, to
which any first term can be added without a change; a term that does not count is +0.0.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import at, compiled, put

#: Most terms for which `elements` is compiled with an unrolled loop.
MOST_TAPS = 4


@compiled
def rows(x: Any, out: Any, places: Any, weights: Any, lengths: Any, start: int, stop: int) -> None:
    """Sum rows of ``inner`` adjacent elements; an item is a row of the result."""
    length, results, inner = lengths
    terms = len(weights) // results
    zero = x.dtype.type(0)
    for item in range(start, stop):
        first, target = item % results * terms, item * inner
        outer = item // results * length
        weight, other_weight = at(weights, first), at(weights, first + terms - 1)
        if terms == 2 and weight != 0 and other_weight != 0:  # in one pass
            source = (outer + at(places, first)) * inner
            other = (outer + at(places, first + 1)) * inner
            for j in range(inner):
                total = at(x, source + j) * weight + at(x, other + j) * other_weight
                put(out, target + j, total)
            continue
        for j in range(inner):
            put(out, target + j, -zero)
        for k in range(first, first + terms):
            weight, source = at(weights, k), (outer + at(places, k)) * inner
            if weight != 0:
                for j in range(inner):
                    put(out, target + j, at(out, target + j) + at(x, source + j) * weight)
            else:
                for j in range(inner):
                    put(out, target + j, at(out, target + j) + zero)


@compiled
def elements(
    x: Any, out: Any, places: Any, weights: Any, lengths: Any, taps: Any, start: int, stop: int
) -> None:
    """Sum elements of the last axis; an item is a row of it.

    ``taps`` is a tuple with an item for each term, or empty for any number of terms.
    """
    length, results, _ = lengths
    terms = len(weights) // results
    zero = x.dtype.type(0)
    for item in range(start, stop):
        source, target = item * length, item * results
        for i in range(results):
            total = -zero
            if len(taps) > 0:
                for k in range(len(taps)):
                    weight = at(weights, i * len(taps) + k)
                    value = at(x, source + at(places, i * len(taps) + k)) * weight
                    total += value if weight != 0 else zero
            else:
                for k in range(i * terms, (i + 1) * terms):
                    weight = at(weights, k)
                    value = at(x, source + at(places, k)) * weight
                    total += value if weight != 0 else zero
            put(out, target + i, total)
