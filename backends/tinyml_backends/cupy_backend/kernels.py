"""The table of CUDA kernels: file, template parameters, arguments, and every instance.

A kernel is a template in ``kernels/*.cu``. Its parameters are

``T``
    element type: float16, float32 or float64
``W``
    dtype of the winners: uint8, uint16 or uint32
``I``
    type of all index arithmetic: int32, or int64 for arrays of more than `launcher.MAX_INT32`
    elements
``S``
    type of sums and of arithmetic: float32 for float16, else ``T``
``F``
    an activation: a struct of ``formulas.py``
``K``
    dtype of what an activation keeps for its gradient: ``T``, or uint8 for ``x > 0``
``P``
    number of adjacent elements that fill 16 bytes, which a thread handles at once; the source
    calls it ``N`` too
``N``
    the same number, or 1

and flags, which have other names. `Kernel.instances` lists every instance that can be launched, so
that all of them can be compiled without a GPU; the launcher refuses any other.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import files
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinyml_backends.cupy_backend import formulas

Value: TypeAlias = "np.dtype[Any] | int | str"
Instance: TypeAlias = Mapping[str, Value]
Choices: TypeAlias = tuple[Value, ...] | Callable[[Instance], tuple[Value, ...]]

FLOATS = tuple(map(np.dtype, ("float16", "float32", "float64")))
WIDE_FLOATS = FLOATS[1:]
WINNERS = tuple(map(np.dtype, ("uint8", "uint16", "uint32")))
INDICES = tuple(map(np.dtype, ("int32", "int64")))

#: C++ names of dtypes.
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

#: Bytes of the widest load or store of one thread.
PACK_BYTES = 16

#: Element count of an array, computed from the sizes in the arguments that are passed by value.
Count: TypeAlias = Callable[[Mapping[str, int]], int]


@dataclass(frozen=True)
class Elements:
    """An argument: a contiguous array on the device.

    ``dtype`` is a template parameter or the name of a dtype; ``count`` gives the number of elements
    that the kernel accesses.
    """

    dtype: str
    count: Count


@dataclass(frozen=True)
class Number:
    """An argument: one number by value, and its name for `Elements.count`."""

    dtype: str
    name: str = ""


@dataclass(frozen=True)
class Struct:
    """An argument: a struct of ``structs.py`` by value."""

    name: str


Argument: TypeAlias = Elements | Number | Struct


@dataclass(frozen=True, eq=False)
class Kernel:
    """One template and its arguments.

    Attributes
    ----------
    file, name : str
        File in ``kernels/``, and the function in it.
    template : tuple of str
        Template parameters in their order.
    arguments : tuple of Elements, Number or Struct
    choices : mapping
        Values of the template parameters that have others than those in `_CHOICES`.
    """

    file: str
    name: str
    template: tuple[str, ...]
    arguments: tuple[Argument, ...]
    choices: Mapping[str, Choices] = field(default_factory=dict)

    def values_of(self, parameter: str, chosen: Instance) -> tuple[Value, ...]:
        """Possible values of a parameter, given those of the parameters before it."""
        values = self.choices.get(parameter) or _CHOICES[parameter]
        return values(chosen) if callable(values) else values

    def instances(self) -> Iterator[Instance]:
        """Every instance that can be launched."""
        some: list[dict[str, Value]] = [{}]
        for parameter in self.template:
            some = [
                {**chosen, parameter: value}
                for chosen in some
                for value in self.values_of(parameter, chosen)
            ]
        return iter(some)

    def expression(self, instance: Instance) -> str:
        """C++ name of an instance, for example ``avg_pool<float, int, 4>``.

        Raises
        ------
        ValueError
            If there is no such instance.
        """
        values = []
        for parameter in self.template:
            value = instance[parameter]
            if value not in self.values_of(parameter, instance):
                raise ValueError(f"{self.name} has no instance with {parameter} = {value}")
            values.append(_cuda_name(value))
        return f"{self.name}<{', '.join(values)}>"


def _cuda_name(value: Value) -> str:
    if isinstance(value, np.dtype):
        return CUDA_NAMES[value.name]
    return value if isinstance(value, str) else str(int(value))


def pack_length(dtype: Value) -> int:
    """Elements in one pack."""
    assert isinstance(dtype, np.dtype)
    return PACK_BYTES // dtype.itemsize


def sum_dtype(dtype: Value) -> "np.dtype[Any]":
    """Type of sums and of arithmetic on elements of ``dtype``."""
    assert isinstance(dtype, np.dtype)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _kept(chosen: Instance) -> tuple[Value, ...]:
    return (chosen["T"] if formulas.ELEMENTWISE[str(chosen["F"])].saves != "positive" else _BYTE,)


_BYTE = np.dtype("uint8")
_FLAG = (False, True)
_CHOICES: Mapping[str, Choices] = {
    "T": FLOATS,
    "W": WINNERS,
    "I": INDICES,
    "N": lambda chosen: (1, pack_length(chosen["T"])),
    "S": lambda chosen: (sum_dtype(chosen["T"]),),
    "F": tuple(formulas.ELEMENTWISE),
    "K": _kept,
    "P": lambda chosen: (pack_length(chosen["T"]),),
    "SUM": _FLAG,
    "LAST": _FLAG,
    "SAMPLES_LAST": _FLAG,
    "ADD": lambda chosen: _FLAG if chosen["SAMPLES_LAST"] else (True,),
    "COUNTS": (0, 1, 2),
}


@cache
def source(file: str) -> str:
    """CUDA source of one file, with ``common.cuh`` and the formulas where they are included."""
    folder = files("tinyml_backends.cupy_backend") / "kernels"
    text = (folder / file).read_text("utf-8")
    common = partial((folder / "common.cuh").read_text, "utf-8")
    for name, content in (("common.cuh", common), ("formulas.cuh", formulas.code)):
        before, included, after = text.partition(f'#include "{name}"\n')
        if included:
            line = before.count("\n") + 2
            text = f'{before}#line 1 "{name}"\n{content()}\n#line {line} "{file}"\n{after}'
    return text


def _product(*names: str) -> Count:
    return lambda sizes: prod(sizes[name] for name in names)


_INPUTS = Elements("T", _product("inputs"))
_OUTPUTS = Elements("T", _product("outputs"))
_OUTPUT_WINNERS = Elements("W", _product("outputs"))
_FIRST_BAD = Elements("uint64", _product())
_GEOMETRY = Struct("Geometry")
_BYTE_WINNERS = {"W": WINNERS[:1]}

_POOL_ARGUMENTS = (_INPUTS, _OUTPUTS, _OUTPUT_WINNERS, _GEOMETRY)
MAX_POOL = Kernel("max_pool.cu", "max_pool", ("T", "W", "I", "N"), _POOL_ARGUMENTS)
MAX_POOL_WIDTH2 = Kernel(
    "max_pool.cu", "max_pool_width2", ("T", "W", "I", "P"), _POOL_ARGUMENTS, _BYTE_WINNERS
)

_UNPOOL_ARGUMENTS = (_OUTPUTS, _OUTPUT_WINNERS, _INPUTS, _GEOMETRY)
MAX_UNPOOL = Kernel("max_unpool.cu", "max_unpool", ("T", "W", "I", "N", "SUM"), _UNPOOL_ARGUMENTS)
MAX_UNPOOL_WIDTH2 = Kernel(
    "max_unpool.cu",
    "max_unpool_width2",
    ("T", "W", "I", "P", "SUM"),
    _UNPOOL_ARGUMENTS,
    _BYTE_WINNERS,
)
MAX_UNPOOL_GRADIENT = Kernel(
    "max_unpool_gradient.cu",
    "max_unpool_gradient",
    ("T", "W", "I", "LAST"),
    (_INPUTS, _OUTPUT_WINNERS, _OUTPUTS, _GEOMETRY),
)

CLAIM_CELLS = Kernel(
    "plane_indices.cu",
    "claim_cells",
    ("I",),
    (
        Elements("int64", _product("values")),
        Elements("I", lambda sizes: sizes["values"] // sizes["pooled"] * sizes["plane"]),
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
        Elements("T", lambda sizes: 0),  # not checked: as many as CLAIM_CELLS had indices
        Elements("I", _product("cells")),
        Elements("T", _product("cells")),
        Number("I", "cells"),
    ),
)
WINNERS_FROM_INDICES = Kernel(
    "indices.cu",
    "winners_from_indices",
    ("W", "I", "COUNTS"),
    (
        Elements("int64", _product("outputs")),
        _OUTPUT_WINNERS,
        _FIRST_BAD,
        _GEOMETRY,
        Struct("Flat"),
    ),
)

_MEAN = (_GEOMETRY, Struct("Counted"))
AVG_POOL = Kernel("avg_pool.cu", "avg_pool", ("T", "I", "N"), (_INPUTS, _OUTPUTS, *_MEAN))
AVG_POOL_GRADIENT = Kernel(
    "avg_pool.cu", "avg_pool_gradient", ("T", "I", "N"), (_OUTPUTS, _INPUTS, *_MEAN)
)

_COLUMNS = Elements("T", _product("outputs", "cells"))
_LAYOUT = (_GEOMETRY, Struct("Columns"))
IM2COL = Kernel("im2col.cu", "im2col", ("T", "I", "SAMPLES_LAST"), (_INPUTS, _COLUMNS, *_LAYOUT))
COL2IM = Kernel(
    "im2col.cu", "col2im", ("T", "I", "SAMPLES_LAST", "ADD"), (_COLUMNS, _INPUTS, *_LAYOUT)
)


def _training(file: str, name: str, *arguments: Argument) -> Kernel:
    return Kernel(file, name, ("T", "I"), arguments, {"T": WIDE_FLOATS})


_CHANNEL = Elements("T", _product("channels"))
_PIXELS = Elements("T", _product("channels", "per_channel"))
_SUMS = Elements("T", _product("channels", "partials"))
_IMAGES = Struct("Images")
SQUARED_DEVIATIONS = _training(
    "batch_norm.cu", "squared_deviations", _PIXELS, _CHANNEL, _SUMS, _IMAGES
)
NORMALIZE = _training(
    "batch_norm.cu", "normalize", _PIXELS, *[_CHANNEL] * 4, *[_PIXELS] * 2, Number("I"), _IMAGES
)
GRADIENT_SUMS = _training("batch_norm.cu", "gradient_sums", *[_PIXELS] * 2, *[_SUMS] * 2, _IMAGES)
NORMALIZE_GRADIENT = _training(
    "batch_norm.cu",
    "normalize_gradient",
    *([_PIXELS] * 2 + [_CHANNEL] * 3 + [_PIXELS]),
    Number("I"),
    _IMAGES,
)

_ALL, _COUNT = Elements("T", _product("count")), Number("I", "count")
SGD = _training("optimizers.cu", "sgd", *[_ALL] * 3, *[Number("T")] * 2, _COUNT)
ADAM = _training("optimizers.cu", "adam", *[_ALL] * 4, *[Number("T")] * 7, _COUNT)

_ACTIVATION = ("F", "T", "S", "I", "N")
_SIGNS = Elements("uint8", _product("count"))
_KEEPS_SIGNS = tuple(f for f, of in formulas.ELEMENTWISE.items() if of.saves == "positive")
ACTIVATE = Kernel(
    "activation.cu",
    "activate",
    _ACTIVATION,
    (_ALL, _ALL, Number("S"), _COUNT),
    {"F": tuple(f for f in formulas.ELEMENTWISE if f not in _KEEPS_SIGNS)},
)
ACTIVATE_SIGNED = Kernel(
    "activation.cu",
    "activate_signed",
    _ACTIVATION,
    (_ALL, _ALL, _SIGNS, Number("S"), _COUNT),
    {"F": _KEEPS_SIGNS},
)
ACTIVATE_GRADIENT = Kernel(
    "activation.cu",
    "activate_gradient",
    ("F", "T", "K", "S", "I", "N"),
    (_ALL, Elements("K", _product("count")), _ALL, Number("S"), _COUNT),
)

#: All kernels above.
KERNELS = tuple(value for value in tuple(globals().values()) if isinstance(value, Kernel))
