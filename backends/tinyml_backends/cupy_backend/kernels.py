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

from collections.abc import Callable, Iterator, Mapping
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
    "float16": "Half",
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


#: Element count of an array, from the facts that come with the other arguments.
Count: TypeAlias = Callable[[Mapping[str, int]], int]


@dataclass(frozen=True)
class Elements:
    """An argument: a contiguous array on the device.

    ``dtype`` is a template parameter or the name of a dtype; ``count`` says how many elements the
    kernel reaches for.
    """

    dtype: str
    count: Count


@dataclass(frozen=True)
class Number:
    """An argument: one number by value, and the name that `Elements.count` knows it by."""

    dtype: str
    name: str = ""


@dataclass(frozen=True)
class Struct:
    """An argument: a struct of ``structs.py`` by value."""

    name: str


Argument: TypeAlias = Elements | Number | Struct


@dataclass(frozen=True, eq=False)
class Kernel:
    """One template, and what it takes.

    Attributes
    ----------
    file, name : str
        File in ``kernels/``, and the function in it.
    template : tuple of str
        Template parameters in their order.
    arguments : tuple of Elements, Number or Struct
    choices : mapping
        Values of template parameters that have none of their own.
    """

    file: str
    name: str
    template: tuple[str, ...]
    arguments: tuple[Argument, ...]
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


def _of(name: str) -> Count:
    return lambda facts: facts[name]


def _sums(facts: Mapping[str, int]) -> int:
    return facts["channels"] * facts["parts"]


def _elements(facts: Mapping[str, int]) -> int:
    return facts["channels"] * facts["per_channel"]


_FLAG = (False, True)
_BYTE_WINNERS = {"W": WINNERS[:1]}
_POOLING = ("T", "W", "I")
_INPUTS, _OUTPUTS = Elements("T", _of("inputs")), Elements("T", _of("outputs"))
_OUTPUT_WINNERS = Elements("W", _of("outputs"))
_FIRST_BAD = Elements("uint64", lambda facts: 1)
_GEOMETRY = Struct("Geometry")

MAX_POOL = Kernel(
    "max_pool.cu",
    "max_pool",
    (*_POOLING, "N"),
    (_INPUTS, _OUTPUTS, _OUTPUT_WINNERS, _GEOMETRY),
)
MAX_POOL_PAIRS = Kernel(
    "max_pool.cu", "max_pool_pairs", (*_POOLING, "P"), MAX_POOL.arguments, _BYTE_WINNERS
)
MAX_UNPOOL = Kernel(
    "max_unpool.cu",
    "max_unpool",
    (*_POOLING, "N", "SUM"),
    (_OUTPUTS, _OUTPUT_WINNERS, _INPUTS, _GEOMETRY),
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
    (_INPUTS, _OUTPUT_WINNERS, _OUTPUTS, _GEOMETRY),
    {"LAST": _FLAG},
)
CLAIM_CELLS = Kernel(
    "plane_indices.cu",
    "claim_cells",
    ("I",),
    (
        Elements("int64", _of("values")),
        Elements("I", lambda facts: facts["values"] // facts["pooled"] * facts["plane"]),
        _FIRST_BAD,
        Number("I", "values"),
        Struct("Divisor"),
        Number("I", "plane"),
    ),
)
WRITE_OWNED = Kernel(
    "plane_indices.cu",
    "write_owned",
    ("T", "I"),
    (
        Elements("T", lambda facts: 0),  # as many as there were claims
        Elements("I", _of("cells")),
        Elements("T", _of("cells")),
        Number("I", "cells"),
    ),
)
WINNERS_FROM_INDICES = Kernel(
    "indices.cu",
    "winners_from_indices",
    ("W", "I", "COUNTS"),
    (Elements("int64", _of("outputs")), _OUTPUT_WINNERS, _FIRST_BAD, _GEOMETRY, Struct("Flat")),
    {"COUNTS": (0, 1, 2)},
)
AVG_POOL = Kernel(
    "avg_pool.cu",
    "avg_pool",
    ("T", "I", "N"),
    (_INPUTS, _OUTPUTS, _GEOMETRY, Struct("Counted")),
)
AVG_POOL_GRADIENT = Kernel(
    "avg_pool.cu",
    "avg_pool_gradient",
    AVG_POOL.template,
    (_OUTPUTS, _INPUTS, _GEOMETRY, Struct("Counted")),
)
_COLUMNS = Elements("T", lambda facts: facts["outputs"] * facts["cells"])
IM2COL = Kernel(
    "im2col.cu",
    "im2col",
    ("T", "I", "SAMPLES_LAST"),
    (_INPUTS, _COLUMNS, _GEOMETRY, Struct("Columns")),
    {"SAMPLES_LAST": _FLAG},
)
COL2IM = Kernel(
    "im2col.cu",
    "col2im",
    ("T", "I", "SAMPLES_LAST", "ADD"),
    (_COLUMNS, _INPUTS, _GEOMETRY, Struct("Columns")),
    {"SAMPLES_LAST": _FLAG, "ADD": _FLAG},
)
_WIDE = {"T": WIDE_FLOATS}
_CHANNELS, _SUMS, _IMAGES = (Elements("T", count) for count in (_of("channels"), _sums, _elements))
SQUARED_DEVIATIONS = Kernel(
    "batch_norm.cu",
    "squared_deviations",
    ("T", "I"),
    (_IMAGES, _CHANNELS, _SUMS, Struct("Images")),
    _WIDE,
)
NORMALIZE = Kernel(
    "batch_norm.cu",
    "normalize",
    ("T", "I"),
    (_IMAGES, *[_CHANNELS] * 4, _IMAGES, _IMAGES, Number("I"), Struct("Images")),
    _WIDE,
)
GRADIENT_SUMS = Kernel(
    "batch_norm.cu",
    "gradient_sums",
    ("T", "I"),
    (_IMAGES, _IMAGES, _SUMS, _SUMS, Struct("Images")),
    _WIDE,
)
NORMALIZE_GRADIENT = Kernel(
    "batch_norm.cu",
    "normalize_gradient",
    ("T", "I"),
    (_IMAGES, _IMAGES, *[_CHANNELS] * 3, _IMAGES, Number("I"), Struct("Images")),
    _WIDE,
)
_ALL = Elements("T", _of("count"))
SGD = Kernel(
    "optimizers.cu",
    "sgd",
    ("T", "I"),
    (*[_ALL] * 3, *[Number("T")] * 2, Number("I", "count")),
    _WIDE,
)
ADAM = Kernel(
    "optimizers.cu",
    "adam",
    ("T", "I"),
    (*[_ALL] * 4, *[Number("T")] * 7, Number("I", "count")),
    _WIDE,
)

#: Every kernel there is.
KERNELS = (
    *(MAX_POOL, MAX_POOL_PAIRS, MAX_UNPOOL, MAX_UNPOOL_PAIRS, MAX_UNPOOL_GRADIENT),
    *(CLAIM_CELLS, WRITE_OWNED, WINNERS_FROM_INDICES, AVG_POOL, AVG_POOL_GRADIENT),
    *(IM2COL, COL2IM, SQUARED_DEVIATIONS, NORMALIZE, GRADIENT_SUMS, NORMALIZE_GRADIENT),
    *(SGD, ADAM),
)
