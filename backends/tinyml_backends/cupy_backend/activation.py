"""Elementwise activations in one pass each."""

from typing import Any

import numpy as np

from tinyml_backends.arrays import Array, as_floats
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.devices import CupyArrays
from tinyml_backends.cupy_backend.formulas import struct_name
from tinyml_backends.cupy_backend.launcher import index_dtype
from tinyml_backends.generic.activation import formula_of


class CupyActivation(CupyArrays):
    """Activations. Those that are not elementwise run the generic code."""

    def activate(self, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
        """As `Backend.activate`."""
        formula, options = formula_of(kind, options)
        with self.scope(x):
            if not formula.is_elementwise or as_floats(x).dtype not in k.FLOATS:
                return super().activate(kind, x, **options)
            x = as_floats(x)
            source, y = self.xp.ascontiguousarray(x), self.xp.empty(x.shape, x.dtype)
            if formula.saves == "positive":
                positive = self.xp.empty(x.shape, bool)
                arrays = (source, y, positive.view(np.uint8))
                self._launch_activation(k.ACTIVATE_SIGNED, kind, options, *arrays)
                return y, positive
            self._launch_activation(k.ACTIVATE, kind, options, source, y)
            return y, x if formula.saves == "input" else y

    def activate_gradient(self, kind: str, gradient: Array, saved: Array, **options: Any) -> Array:
        """As `Backend.activate_gradient`."""
        formula, options = formula_of(kind, options)
        kept = np.dtype(bool) if formula.saves == "positive" else gradient.dtype
        fits = (saved.shape, saved.dtype) == (gradient.shape, kept)
        with self.scope(gradient):
            if not (formula.is_elementwise and fits and gradient.dtype in k.FLOATS):
                return super().activate_gradient(kind, gradient, saved, **options)
            gradient, saved = map(self.xp.ascontiguousarray, (gradient, saved))
            out = self.xp.empty(gradient.shape, gradient.dtype)
            if formula.saves == "positive":
                saved = saved.view(np.uint8)
            arrays = (gradient, saved, out)
            self._launch_activation(k.ACTIVATE_GRADIENT, kind, options, *arrays, K=saved.dtype)
            return out

    def _launch_activation(
        self, kernel: k.Kernel, kind: str, options: dict[str, Any], *arrays: Array, **more: Any
    ) -> None:
        """Launch a kernel; the first array has the dtype of the elements."""
        dtype, size = arrays[0].dtype, arrays[0].size
        index, number = index_dtype(size), k.sum_dtype(dtype)
        pack = k.pack_length(dtype)
        whole = size % pack == 0 and all(a.data.ptr % (pack * a.itemsize) == 0 for a in arrays)
        instance = {"F": struct_name(kind), "T": dtype, "S": number, "I": index}
        instance["N"] = pack if whole else 1
        option = number.type(next(iter(options.values()), 0))
        self._launch(
            kernel, {**instance, **more}, size // instance["N"], *arrays, option, index.type(size)
        )
