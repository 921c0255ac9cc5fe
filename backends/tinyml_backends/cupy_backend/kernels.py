"""The table of CUDA kernels: file, template parameters, arguments, and every instance there is.

A kernel is a template in ``kernels/*.cu``. Its parameters are

``T``
    element type: float16, float32 or float64
``W``
    dtype of the winners: uint8, uint16 or uint32
``I``
    type of all index arithmetic: int32, or int64 for arrays of 2**31 elements or more
``N``, ``P``
    neighbours that a thread handles at once: as many as fill 16 bytes, or with ``N`` also 1

and named choices. `Kernel.instances` lists what may be asked for, so that all of it can be compiled
without a GPU; the launcher refuses anything else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

Value: TypeAlias = "np.dtype[Any] | int"
Instance: TypeAlias = Mapping[str, Value]

FLOATS = tuple(map(np.dtype, ("float16", "float32", "float64")))
WIDE_FLOATS = FLOATS[1:]
WINNERS = tuple(map(np.dtype, ("uint8", "uint16", "uint32")))
INDICES = tuple(map(np.dtype, ("int32", "int64")))

#: What C++ calls a dtype.
CUDA_NAMES = {
    "float16": "__half",
    "float32": "float",
    "float64": "double",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "int32": "int",
    "int64": "long long",
}

#: Bytes of one load or store that a GPU memory transaction likes best.
PACK_BYTES = 16


@dataclass(frozen=True)
class Kernel:
    """One template, and what it takes.

    Attributes
    ----------
    file, name : str
        File in ``kernels/``, and the function in it.
    template : tuple of str
        Template parameters in their order.
    arguments : tuple of str
        For each argument what it must be: a template parameter ("T": an array of that dtype), a
        dtype ("int64": an array of it), the same in parentheses ("(I)": one number of it), or a
        struct ("Geometry").
    choices : mapping
        Values of each template parameter.
    """

    file: str
    name: str
    template: tuple[str, ...]
    arguments: tuple[str, ...]
    choices: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def values_of(self, parameter: str, chosen: Instance) -> tuple[Value, ...]:
        """What a parameter may be, given those before it."""
        if parameter in self.choices:
            return self.choices[parameter]
        if parameter in ("N", "P"):
            pack = pack_length(chosen["T"])
            return (1, pack) if parameter == "N" else (pack,)
        return {"T": FLOATS, "W": WINNERS, "I": INDICES}[parameter]

    def instances(self) -> Iterator[Instance]:
        """Every instance of the template that may be asked for."""
        some: list[dict[str, Value]] = [{}]
        for parameter in self.template:
            some = [
                {**chosen, parameter: value}
                for chosen in some
                for value in self.values_of(parameter, chosen)
            ]
        return iter(some)

    def expression(self, instance: Instance) -> str:
        """C++ name of an instance, for example ``avg_pool<float, int, 4>``."""
        return f"{self.name}<{', '.join(map(_cuda, self.in_order(instance)))}>"

    def in_order(self, instance: Instance) -> list[Value]:
        """The template's values; ValueError where one is none of the choices."""
        values = []
        for parameter in self.template:
            value = instance[parameter]
            if value not in self.values_of(parameter, instance):
                raise ValueError(f"{self.name} has no instance with {parameter} = {value}")
            values.append(value)
        return values


def pack_length(dtype: Value) -> int:
    """Elements in one pack."""
    assert isinstance(dtype, np.dtype)
    return PACK_BYTES // dtype.itemsize


def _cuda(value: Value) -> str:
    return str(int(value)) if isinstance(value, int) else CUDA_NAMES[value.name]


@cache
def source(file: str) -> str:
    """CUDA source of one file, with what it includes from its own folder put in its place."""
    folder = files("tinyml_backends.cupy_backend") / "kernels"
    text = (folder / file).read_text("utf-8")
    common = (folder / "common.cuh").read_text("utf-8")
    before, included, after = text.partition('#include "common.cuh"\n')
    if not included:
        return text
    line = before.count("\n") + 2
    return f'#line 1 "common.cuh"\n{common}\n{before}#line {line} "{file}"\n{after}'


_FLAG = (False, True)
_BYTE_WINNERS = {"W": WINNERS[:1]}
_POOLING = ("T", "W", "I")

MAX_POOL = Kernel("max_pool.cu", "max_pool", (*_POOLING, "N"), ("T", "T", "W", "Geometry"))
MAX_POOL_PAIRS = Kernel(
    "max_pool.cu", "max_pool_pairs", (*_POOLING, "P"), MAX_POOL.arguments, _BYTE_WINNERS
)
MAX_UNPOOL = Kernel(
    "max_unpool.cu",
    "max_unpool",
    (*_POOLING, "N", "SUM"),
    ("T", "W", "T", "Geometry"),
    {"SUM": _FLAG},
)
MAX_UNPOOL_PAIRS = Kernel(
    "max_unpool.cu",
    "max_unpool_pairs",
    (*_POOLING, "P", "SUM"),
    MAX_UNPOOL.arguments,
    {"SUM": _FLAG, **_BYTE_WINNERS},
)
MAX_UNPOOL_GRADIENT = Kernel(
    "max_unpool_gradient.cu",
    "max_unpool_gradient",
    (*_POOLING, "LAST"),
    ("T", "W", "T", "Geometry"),
    {"LAST": _FLAG},
)
CLAIM_CELLS = Kernel(
    "plane_indices.cu",
    "claim_cells",
    ("I",),
    ("int64", "I", "uint64", "(I)", "Divisor", "(I)"),
)
WRITE_OWNED = Kernel("plane_indices.cu", "write_owned", ("T", "I"), ("T", "I", "T", "(I)"))
WINNERS_FROM_INDICES = Kernel(
    "indices.cu",
    "winners_from_indices",
    ("W", "I", "COUNTS"),
    ("int64", "W", "uint64", "Geometry", "Flat"),
    {"COUNTS": (0, 1, 2)},
)
AVG_POOL = Kernel("avg_pool.cu", "avg_pool", ("T", "I", "N"), ("T", "T", "Geometry", "Counted"))
AVG_POOL_GRADIENT = Kernel(
    "avg_pool.cu", "avg_pool_gradient", AVG_POOL.template, AVG_POOL.arguments
)
IM2COL = Kernel(
    "im2col.cu",
    "im2col",
    ("T", "I", "SAMPLES_LAST"),
    ("T", "T", "Geometry", "Columns"),
    {"SAMPLES_LAST": _FLAG},
)
COL2IM = Kernel(
    "im2col.cu",
    "col2im",
    ("T", "I", "SAMPLES_LAST", "ADD"),
    IM2COL.arguments,
    {"SAMPLES_LAST": _FLAG, "ADD": _FLAG},
)
_WIDE = {"T": WIDE_FLOATS}
SQUARED_DEVIATIONS = Kernel(
    "batch_norm.cu", "squared_deviations", ("T", "I"), ("T", "T", "T", "Images"), _WIDE
)
NORMALIZE = Kernel("batch_norm.cu", "normalize", ("T", "I"), ("T",) * 7 + ("(I)", "Images"), _WIDE)
GRADIENT_SUMS = Kernel(
    "batch_norm.cu", "gradient_sums", ("T", "I"), ("T",) * 4 + ("Images",), _WIDE
)
NORMALIZE_GRADIENT = Kernel(
    "batch_norm.cu", "normalize_gradient", ("T", "I"), ("T",) * 6 + ("(I)", "Images"), _WIDE
)
SGD = Kernel("optimizers.cu", "sgd", ("T", "I"), ("T", "T", "T", "(T)", "(T)", "(I)"), _WIDE)
ADAM = Kernel("optimizers.cu", "adam", ("T", "I"), ("T",) * 4 + ("(T)",) * 7 + ("(I)",), _WIDE)

#: Every kernel there is.
KERNELS = (
    *(MAX_POOL, MAX_POOL_PAIRS, MAX_UNPOOL, MAX_UNPOOL_PAIRS, MAX_UNPOOL_GRADIENT),
    *(CLAIM_CELLS, WRITE_OWNED, WINNERS_FROM_INDICES, AVG_POOL, AVG_POOL_GRADIENT),
    *(IM2COL, COL2IM, SQUARED_DEVIATIONS, NORMALIZE, GRADIENT_SUMS, NORMALIZE_GRADIENT),
    *(SGD, ADAM),
)
