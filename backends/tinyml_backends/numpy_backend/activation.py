"""Elementwise activations in chunks that fit in the cache, in threads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyml_backends import threads
from tinyml_backends.arrays import Array, Arrays, as_floats, widened
from tinyml_backends.generic import activation
from tinyml_backends.generic.activation import formula_of, gradient_dtype
from tinyml_backends.generic.bits import as_bits, mask
from tinyml_backends.memory import empty

#: Elements of a chunk: few enough that the temporaries stay in the cache.
CHUNK = 1 << 15


def activate(backend: Arrays, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
    """As `Backend.activate`."""
    formula, options = formula_of(kind, options)
    with np.errstate(all="ignore"):
        if not formula.is_elementwise:
            return activation.activate(backend, kind, x, **options)
        x = as_floats(x)
        y = empty(np, x.shape, x.dtype)
        source, target = x.reshape(-1), y.reshape(-1)
        saved = {"input": x, "output": y}.get(formula.saves)
        positive = None
        if saved is None:
            saved = empty(np, x.shape, np.dtype(bool))
            positive = saved.reshape(-1)

        def work(chunk: slice) -> None:
            target[chunk] = formula.value(np, widened(source[chunk]), **options)
            if positive is not None:
                np.greater(source[chunk], 0, out=positive[chunk])

        _in_chunks(work, y.size)
        return y, saved


def activate_gradient(
    backend: Arrays, kind: str, gradient: Array, saved: Array, **options: Any
) -> Array:
    """As `Backend.activate_gradient`."""
    formula, options = formula_of(kind, options)
    with np.errstate(all="ignore"):
        if not formula.is_elementwise or gradient.shape != saved.shape:
            return activation.activate_gradient(backend, kind, gradient, saved, **options)
        gradient = as_floats(gradient)
        out = empty(np, gradient.shape, gradient_dtype(gradient, saved))
        source, kept, target = gradient.reshape(-1), saved.reshape(-1), out.reshape(-1)

        def work(chunk: slice) -> None:
            given, of_forward = source[chunk], kept[chunk]
            if kind == "relu":
                np.bitwise_and(as_bits(given), mask(of_forward, given), out=as_bits(target[chunk]))
            else:
                target[chunk] = formula.gradient(np, widened(given), widened(of_forward), **options)

        _in_chunks(work, out.size)
        return out


def _in_chunks(work: Callable[[slice], None], size: int) -> None:
    """Call ``work`` for ranges that cover ``size`` elements, in threads if there are many."""
    chunks = [slice(start, start + CHUNK) for start in range(0, size, CHUNK)]
    threads.run(work, chunks)
