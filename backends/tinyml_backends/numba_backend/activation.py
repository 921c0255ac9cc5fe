"""Kernels of elementwise activations and their gradients, for float32 and float64.

Each is one loop that LLVM vectorises, so all functions are plain arithmetic, the exponential too.
The formulas are those of `tinyml_backends.generic.activation`. ``terms`` are the `Terms` of the
dtype, and ``option`` is the formula's number, if it has one.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from tinyml_backends.generic import exponential, normal
from tinyml_backends.generic.activation import CUBIC, SLOPE, TANH_FAR
from tinyml_backends.numba_backend.compiled import Code, at, compiled, instruction, put

#: A multiplication and an addition may become one instruction, which rounds once.
fused = partial(compiled, fastmath={"contract"})
fused_inlined = partial(compiled, forceinline=True, fastmath={"contract"})


class Terms(NamedTuple):
    """Coefficients of polynomials, the one of the highest power first."""

    exponential: tuple[Any, ...]
    """As `exponential.TERMS`."""
    tail: tuple[Any, ...]
    """As `normal.TERMS`."""


def _terms(dtype: "np.dtype[Any]") -> Terms:
    both = exponential.TERMS[dtype], normal.TERMS[dtype][::-1]
    return Terms(*(tuple(map(dtype.type, terms)) for terms in both))


TERMS = {dtype: _terms(dtype) for dtype in map(np.dtype, ("f4", "f8"))}

ROOT_HALF, DENSITY, CENTRE = normal.ROOT_HALF, normal.DENSITY, normal.CENTRE
LOG2_HIGH, LOG2_LOW = exponential.LOG2_HIGH, exponential.LOG2_LOW
INVERSE_LOG2 = exponential.INVERSE_LOG2
#: In float32; `range_of` gives the factor for float64.
LARGEST = exponential.LARGEST[np.dtype(np.float32)]


@instruction(lambda: types.void())
def widest_vectors(code: Code) -> None:
    """Let LLVM vectorise the function with AVX-512, which it does not of itself.

    Long arithmetic takes half as long with registers that are twice as wide.
    """
    # llvmlite refuses attributes with a value, but writes all that are in the set
    set.add(code.builder.function.attributes, '"prefer-vector-width"="512"')


@instruction(lambda value, like: like(value, like))
def number(code: Code, value: Any, like: Any) -> Any:
    """``value``, a float64, in the type of ``like``: a literal would turn float32 into float64."""
    is_single = isinstance(like.type, ir.FloatType)
    return code.builder.fptrunc(value, like.type) if is_single else value


@instruction(lambda exponent: exponent(exponent))
def power_of_two(code: Code, exponent: Any) -> Any:
    """Two to the power of a whole number, which has the exponent of a normal number."""
    is_single = isinstance(exponent.type, ir.FloatType)
    bits, bias, size = (23, 127, 32) if is_single else (52, 1023, 64)
    integer, build = ir.IntType(size), code.builder
    biased = build.add(build.fptosi(exponent, integer), integer(bias))
    return build.bitcast(build.shl(biased, integer(bits)), exponent.type)


@instruction(lambda like: like(like))
def range_of(code: Code, like: Any) -> Any:
    """Eight for float64, one for float32: how much larger the logarithms of its numbers are."""
    return like.type(1.0 if isinstance(like.type, ir.FloatType) else 8.0)


@fused_inlined
def polynomial(x: Any, coefficients: Any) -> Any:
    """Horner's scheme."""
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = value * x + coefficients[i]
    return value


@fused_inlined
def _parts(x: Any, terms: Any) -> Any:
    """``expm1(r)`` and two powers of two, where ``exp(x)`` is ``exp(r)`` times both."""
    limit = range_of(x)
    # NaN remains NaN in r, but is no exponent
    low, high = -number(LARGEST, x) * limit, number(LARGEST, x) * limit
    near = high if x > high else (x if x > low else low)
    whole = np.floor(near * number(INVERSE_LOG2, x) + number(0.5, x))
    r = (x if x != x else near) - whole * number(LOG2_HIGH, x) - whole * number(LOG2_LOW, x)
    half = np.floor(whole * number(0.5, x))
    small = r + r * r * polynomial(r, terms.exponential)
    return small, power_of_two(half), power_of_two(whole - half)


@fused_inlined
def exp(x: Any, terms: Any) -> Any:
    """``exp(x)``; the power of two is a product of two because of subnormal numbers."""
    small, first, second = _parts(x, terms)
    return (number(1.0, x) + small) * first * second


@fused_inlined
def exp_of_square(z: Any, terms: Any) -> Any:
    """``exp(−z²)`` for finite ``z`` up to `far_of`; shorter than `exp`, which takes any number."""
    x = -z * z
    whole = np.floor(x * number(INVERSE_LOG2, x) + number(0.5, x))
    r = x - whole * number(LOG2_HIGH, x) - whole * number(LOG2_LOW, x)
    small = r + r * r * polynomial(r, terms.exponential)
    offset = number(64.0, x) * range_of(x)  # so that the first power of two is a normal number
    power = number(1.0, x) + small
    return power * power_of_two(whole + offset) * power_of_two(-offset)


@fused_inlined
def far_of(x: Any) -> Any:
    """A number whose ``erfc`` is 0 in the type of ``x``: 10.5 for float32, 27.3 for float64."""
    return number(10.5, x) + (range_of(x) - number(1.0, x)) * number(2.4, x)


@fused_inlined
def expm1(x: Any, terms: Any) -> Any:
    """``exp(x) − 1`` for ``x ≤ 0``."""
    small, first, second = _parts(x, terms)
    power = first * second
    return power * small + (power - number(1.0, x))


@fused_inlined
def sigmoid_of(x: Any, terms: Any) -> Any:
    """``1 / (1 + exp(−x))``."""
    one = number(1.0, x)
    return one / (one + exp(-x, terms))


@fused_inlined
def tail_of(x: Any, terms: Any) -> Any:
    """``1 − Φ(|x|)`` and ``exp(−x² / 2)``, as in `normal.cdf`."""
    one, far, centre = number(1.0, x), far_of(x), number(CENTRE, x)
    z = abs(x) * number(ROOT_HALF, x)
    z = z if z < far else far  # also where x is NaN: its product with anything is NaN
    exponential = exp_of_square(z, terms)
    shifted, scaled = z + centre, number(4.0, x) * z + one + one
    inverse = one / (shifted * scaled)  # one division for both quotients
    ratio = polynomial((z - centre) * scaled * inverse, terms.tail)
    return ratio * exponential * (shifted * inverse), exponential


@fused
def relu(x: Any, out: Any, positive: Any, start: int, stop: int) -> None:
    """Also writes ``x > 0``, as 0 or 1."""
    for i in range(start, stop):
        value = at(x, i)
        zero = number(0.0, value)
        is_positive = value > zero
        put(positive, i, is_positive)
        put(out, i, value if is_positive or value != value else zero)


@fused
def relu_gradient(gradient: Any, positive: Any, out: Any, start: int, stop: int) -> None:
    """Of elements as unsigned integers."""
    zero = out.dtype.type(0)
    for i in range(start, stop):
        put(out, i, at(gradient, i) if at(positive, i) != 0 else zero)


@fused
def elu(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """Exponential linear unit."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        zero = number(0.0, value)
        other = expm1(zero if value > zero else value, terms) * option
        put(out, i, value if value > zero else other)


@fused
def elu_gradient(
    gradient: Any, x: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the input."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        zero = number(0.0, value)
        slope = exp(zero if value > zero else value, terms) * option
        put(out, i, at(gradient, i) * (number(1.0, value) if value > zero else slope))


@fused
def sigmoid(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """Logistic function."""
    widest_vectors()
    for i in range(start, stop):
        put(out, i, sigmoid_of(at(x, i), terms))


@fused
def sigmoid_gradient(
    gradient: Any, y: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the output."""
    for i in range(start, stop):
        value = at(y, i)
        put(out, i, at(gradient, i) * ((number(1.0, value) - value) * value))


@fused
def tanh(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """``−e / (e + 2)`` with ``e = exp(−2|x|) − 1``, and the sign of ``x``."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        zero, two = number(0.0, value), number(2.0, value)
        e = expm1(-two * abs(value), terms)
        positive = -e / (e + two)
        put(out, i, -positive if value < zero else (value if value == zero else positive))


@fused
def tanh_gradient(
    gradient: Any, y: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the output."""
    for i in range(start, stop):
        value = at(y, i)
        put(out, i, at(gradient, i) * (number(1.0, value) - value * value))


@fused
def silu(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """Sigmoid linear unit."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        put(out, i, value / (number(1.0, value) + exp(-value, terms)))


@fused
def silu_gradient(
    gradient: Any, x: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the input."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        one, s = number(1.0, value), sigmoid_of(value, terms)
        put(out, i, at(gradient, i) * (s * (one + value * (one - s))))


@fused
def gelu(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """``x · Φ(x)``."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        tail, _ = tail_of(value, terms)
        phi = number(1.0, value) - tail if value > number(0.0, value) else tail
        put(out, i, value * phi)


@fused
def gelu_gradient(
    gradient: Any, x: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the input."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        tail, exponential = tail_of(value, terms)
        phi = number(1.0, value) - tail if value > number(0.0, value) else tail
        slope = phi + value * (exponential * number(DENSITY, value))
        put(out, i, at(gradient, i) * slope)


@fused
def gelu_tanh(x: Any, out: Any, terms: Any, option: Any, start: int, stop: int) -> None:
    """Approximation of `gelu`."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        cube = value * value * value
        u = number(SLOPE, value) * (value + number(CUBIC, value) * cube)
        put(out, i, value * sigmoid_of(u, terms))


@fused
def gelu_tanh_gradient(
    gradient: Any, x: Any, out: Any, terms: Any, option: Any, start: int, stop: int
) -> None:
    """From the input."""
    widest_vectors()
    for i in range(start, stop):
        value = at(x, i)
        one, far = number(1.0, value), number(TANH_FAR, value)
        near = far if value > far else (-far if value < -far else value)
        square = near * near
        slope, cubic = number(SLOPE, value), number(CUBIC, value)
        s = sigmoid_of(slope * (near + cubic * (square * near)), terms)
        three = number(3 * SLOPE * CUBIC, value)
        put(out, i, at(gradient, i) * (s + near * (s * (one - s)) * (slope + three * square)))


#: Kernels by the names of formulas, and how many times as long they take as reading and writing.
KERNELS = {
    "elu": (elu, elu_gradient, 2),
    "gelu": (gelu, gelu_gradient, 4),
    "gelu_tanh": (gelu_tanh, gelu_tanh_gradient, 2),
    "sigmoid": (sigmoid, sigmoid_gradient, 2),
    "silu": (silu, silu_gradient, 2),
    "tanh": (tanh, tanh_gradient, 2),
}
