"""CUDA code of elementwise activations, from the table of formulas of the generic code.

A formula is called with symbols in place of arrays. Each operation on them appends one statement,
so that the statements are the formula, operation by operation, for one element.

CUDA's own exponential fuses operations and flushes subnormals, so `exp` and the functions that
follow from it are made here of plain arithmetic. They give the same bits on every device.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np

from tinyml_backends.generic import exponential
from tinyml_backends.generic.activation import FORMULAS, Formula

DType: TypeAlias = "np.dtype[Any]"

#: C++ names of types.
_NAMES = {"bool": "bool", "float16": "Half", "float32": "float", "float64": "double"}
_HALF, _SINGLE, _DOUBLE, _BOOL = map(np.dtype, ("float16", "float32", "float64", "bool"))


class Symbol:
    """One element: a variable of the generated function, or a number."""

    def __init__(self, lines: list[str], dtype: DType, text: str) -> None:
        self._lines = lines
        self.dtype = dtype
        self.text = text

    def made(self, expression: str, dtype: "DType | None" = None) -> "Symbol":
        """A new variable."""
        dtype = dtype or self.dtype
        name = f"v{len(self._lines)}"
        self._lines.append(f"const {_NAMES[dtype.name]} {name} = {expression};")
        return Symbol(self._lines, dtype, name)

    def operand(self, value: Any) -> str:
        """C++ of a symbol or a number, the latter in the dtype of this symbol."""
        if isinstance(value, Symbol):
            return value.text
        if self.dtype == _DOUBLE:
            return repr(float(value))
        literal = f"{np.float32(value)!s}f"  # the shortest one that is read as this float32
        return f"to_half({literal})" if self.dtype == _HALF else literal

    def __add__(self, other: Any) -> "Symbol":
        return self.made(f"{self.text} + {self.operand(other)}")

    def __radd__(self, other: Any) -> "Symbol":
        return self.made(f"{self.operand(other)} + {self.text}")

    def __sub__(self, other: Any) -> "Symbol":
        return self.made(f"{self.text} - {self.operand(other)}")

    def __rsub__(self, other: Any) -> "Symbol":
        return self.made(f"{self.operand(other)} - {self.text}")

    def __mul__(self, other: Any) -> "Symbol":
        return self.made(f"{self.text} * {self.operand(other)}")

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Symbol":
        return self.made(f"{self.text} / {self.operand(other)}")

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self.made(f"{self.operand(other)} / {self.text}")

    def __neg__(self) -> "Symbol":
        return self.made(f"-{self.text}")

    def __gt__(self, other: Any) -> "Symbol":
        return self._compared(">", other)

    def __lt__(self, other: Any) -> "Symbol":
        return self._compared("<", other)

    def _compared(self, sign: str, other: Any) -> "Symbol":
        both = self.text, self.operand(other)
        left, right = (f"number({text})" if self.dtype == _HALF else text for text in both)
        return self.made(f"{left} {sign} {right}", _BOOL)


class Functions:
    """The functions of ``xp`` that formulas call, on symbols."""

    def where(self, condition: Symbol, yes: Any, no: Any) -> Symbol:
        """``condition ? yes : no``; one of both may be a number."""
        like: Symbol = yes if isinstance(yes, Symbol) else no
        return like.made(f"{condition.text} ? {like.operand(yes)} : {like.operand(no)}")

    def isnan(self, x: Symbol) -> Symbol:
        """Whether ``x`` is NaN."""
        return x.made(f"{x.text} != {x.text}", _BOOL)

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        """The function of this name in ``activation.cu`` or among `_ARITHMETIC`."""
        function = _FUNCTIONS[name]

        def call(x: Symbol, *others: Any) -> Symbol:
            return x.made(f"{function}({', '.join((x.text, *map(x.operand, others)))})")

        return call


#: C++ names of functions.
_FUNCTIONS = {
    "abs": "absolute",
    "exp": "exponential",
    "expm1": "exponential_minus_1",
    "floor": "rounded_down",
    "maximum": "larger",
    "minimum": "smaller",
    "power_of_two": "power_of_two",
    "tanh": "hyperbolic_tangent",
}


def _parts(xp: Functions, x: Symbol) -> tuple[Symbol, Symbol, Symbol]:
    """``exp(r) − 1`` and two powers of two, where ``exp(x)`` is ``exp(r)`` times both.

    The power of two is a product of two because of subnormal numbers.
    """
    largest = exponential.LARGEST[x.dtype]
    near = xp.where(x < largest, xp.where(x > -largest, x, -largest), largest)
    whole: Symbol = xp.floor(near * exponential.INVERSE_LOG2 + 0.5)
    # NaN remains NaN in r, but is no exponent
    r = xp.where(xp.isnan(x), x, near)
    r = r - whole * exponential.LOG2_HIGH - whole * exponential.LOG2_LOW
    first, *others = exponential.TERMS[x.dtype]
    series = r * first
    for term in others[:-1]:
        series = (series + term) * r
    series = series + others[-1]
    half = xp.floor(whole * 0.5)
    return r + r * r * series, xp.power_of_two(half), xp.power_of_two(whole - half)


def _exp(xp: Functions, x: Symbol) -> Symbol:
    small, first, second = _parts(xp, x)
    return (1 + small) * first * second


def _expm1(xp: Functions, x: Symbol) -> Symbol:
    """For ``x ≤ 0``; `elu` does not use the others."""
    small, first, second = _parts(xp, x)
    power = first * second
    return power * small + (power - 1)


def _tanh(xp: Functions, x: Symbol) -> Symbol:
    """``−e / (e + 2)`` with ``e = exp(−2|x|) − 1``, and the sign of ``x``."""
    e = xp.expm1(-2 * xp.abs(x))
    positive = -e / (e + 2)
    return xp.where(x > 0, positive, xp.where(x < 0, -positive, x))


#: Functions of CUDA that are made of plain arithmetic here.
_ARITHMETIC = {"exp": _exp, "expm1": _expm1, "tanh": _tanh}


def struct_name(kind: str) -> str:
    """C++ name of a formula: `GeluTanh` of "gelu_tanh"."""
    return kind.title().replace("_", "")


#: The formulas that have CUDA code, by their C++ names.
ELEMENTWISE = {
    struct_name(kind): formula for kind, formula in FORMULAS.items() if formula.is_elementwise
}


@cache
def code() -> str:
    """A struct with the functions ``value`` and ``gradient`` for each formula."""
    functions = [
        _function(_FUNCTIONS[name], partial(f, Functions()), [("x", dtype)], dtype)
        for name, f in _ARITHMETIC.items()
        for dtype in (_SINGLE, _DOUBLE)
    ]
    structs = [_struct(name, formula) for name, formula in ELEMENTWISE.items()]
    return "\n".join((*functions, *structs))


def _struct(name: str, formula: Formula) -> str:
    saved = _BOOL if formula.saves == "positive" else None

    def made(function: str, dtype: DType) -> str:
        of_option = _SINGLE if dtype == _HALF else dtype
        takes = [("x", dtype)] if function == "value" else [("x", dtype), ("saved", saved or dtype)]
        body = partial(_applied, formula, function)
        return _function(function, body, [*takes, ("option", of_option)], dtype, "static ")

    dtypes = (_SINGLE, _DOUBLE, *[_HALF] * formula.chooses)
    functions = [made(f, dtype) for f in ("value", "gradient") for dtype in dtypes]
    if not formula.chooses:
        kept = "bool saved" if saved else "Half saved"
        read = "saved" if saved else "number(saved)"
        functions += [
            "static __device__ Half value(Half x, float option) {\n"
            "    return to_half(value(number(x), option));\n}\n",
            f"static __device__ Half gradient(Half x, {kept}, float option) {{\n"
            f"    return to_half(gradient(number(x), {read}, option));\n}}\n",
        ]
    return f"struct {name} {{\n{''.join(functions)}}};\n"


def _applied(formula: Formula, function: str, *symbols: Symbol) -> Symbol:
    """The result of a formula's function, whose option is the last symbol."""
    *operands, option = symbols
    options = dict.fromkeys(formula.options, option)
    result: Symbol = getattr(formula, function)(Functions(), *operands, **options)
    return result


def _function(
    name: str,
    body: Callable[..., Symbol],
    takes: list[tuple[str, DType]],
    gives: DType,
    before: str = "",
) -> str:
    """C++ of a function."""
    lines: list[str] = []
    result = body(*(Symbol(lines, dtype, parameter) for parameter, dtype in takes))
    parameters = ", ".join(f"{_NAMES[dtype.name]} {parameter}" for parameter, dtype in takes)
    head = f"{before}__device__ inline {_NAMES[gives.name]} {name}({parameters}) {{"
    return "\n".join(
        (head, *(f"    {line}" for line in lines), f"    return {result.text};", "}\n")
    )
