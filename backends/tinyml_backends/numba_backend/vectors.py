"""SIMD vectors inside compiled kernels, as values of LLVM's vector types.

LLVM also vectorises plain loops, but for a row of 14 or 28 elements its checks for overlap and its
loops for the remainder take longer than the work. So kernels use vectors explicitly. The argument
``lanes`` is a tuple whose length is the number of lanes: the type of a tuple includes its length.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from tinyml_backends.numba_backend.compiled import Code, instruction

#: The ``lanes`` of a full vector, which is a cache line of float32; and a single lane, for where a
#: full vector would extend outside of the array.
WIDE, ONE = (0,) * 16, (0,)
#: Bytes of a cache line.
LINE_BYTES = 64
#: Addresses of non-temporal stores are multiples of this many bytes.
STREAM_ALIGNMENT = 16
#: Distance in bytes from the cells that are loaded to those that are prefetched at the same time:
#: the hardware's prefetcher does not predict the next row.
PREFETCH_BYTES = 5 << 10


class Vector(types.Type):  # type: ignore[misc]
    """Numba's type of a SIMD vector."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)  # type: ignore[untyped-decorator,unused-ignore]
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        element = manager[kind.element].get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


def vector_pointer(
    code: Code, argument: int, array: Any, index: Any, lanes: int
) -> tuple[Any, int]:
    """Pointer to ``lanes`` elements of an array, and its alignment."""
    element = code.pointer(argument, array, index)
    vector = ir.VectorType(element.type.pointee, lanes)
    pointer = code.builder.bitcast(element, vector.as_pointer())
    return pointer, code.types[argument].dtype.bitwidth // 8


def shuffled(code: Code, first: Any, second: Any, lanes: Any) -> Any:
    """A vector of some lanes of two vectors, which count as one."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return code.builder.shuffle_vector(first, second, mask)


def broadcast_value(code: Code, value: Any, lanes: int) -> Any:
    """A vector with ``value`` in each lane."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = code.builder.insert_element(undefined, value, ir.IntType(32)(0))
    return shuffled(code, one, one, (0,) * lanes)


@instruction(lambda lanes, array, index: Vector(array.dtype, lanes.count)(lanes, array, types.intp))
def load(code: Code, lanes: Any, array: Any, index: Any) -> Any:
    """A vector of the elements from ``index`` on."""
    pointer, align = vector_pointer(code, 1, array, index, code.types[0].count)
    return code.builder.load(pointer, align=align)


def _two_vectors(lanes: Any, array: Any, index: Any) -> Any:
    vectors = types.UniTuple(Vector(array.dtype, lanes.count), 2)
    return vectors(lanes, array, types.intp)


@instruction(_two_vectors)
def load_alternating(code: Code, lanes: Any, array: Any, index: Any) -> Any:
    """Two vectors from twice as many elements: those with even offsets, and those with odd ones."""
    total = 2 * code.types[0].count
    pointer, align = vector_pointer(code, 1, array, index, total)
    both = code.builder.load(pointer, align=align)
    vectors = [shuffled(code, both, both, range(first, total, 2)) for first in range(2)]
    kind = types.UniTuple(Vector(code.types[1].dtype, code.types[0].count), 2)
    return code.context.make_tuple(code.builder, kind, vectors)


@instruction(lambda lanes, array, index, step: types.void(lanes, array, types.intp, step))
def prefetch(code: Code, lanes: Any, array: Any, index: Any, step: Any) -> None:
    """Prefetch elements that will be loaded some iterations later; they may be outside the array.

    ``step`` is a tuple whose length, one or two, is the distance between the elements of two lanes.
    """
    byte, integer, offset = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
    function = code.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    start = code.builder.bitcast(code.pointer(1, array, index, inbounds=False), byte)
    loaded_bytes = code.types[3].count * code.types[0].count * code.types[1].dtype.bitwidth // 8
    for line in range(0, loaded_bytes, LINE_BYTES):
        address = code.builder.gep(start, [offset(PREFETCH_BYTES + line)])
        code.builder.call(function, [address, integer(0), integer(3), integer(1)])


@instruction(lambda array, index, vector: types.void(array, types.intp, vector))
def store(code: Code, array: Any, index: Any, vector: Any) -> None:
    """Store a vector at the elements from ``index`` on."""
    pointer, align = vector_pointer(code, 0, array, index, code.types[2].lanes)
    code.builder.store(vector, pointer, align=align)


@instruction(
    lambda array, index, even, odd, streamed: types.void(array, types.intp, even, odd, streamed)
)
def store_alternating(
    code: Code, array: Any, index: Any, even: Any, odd: Any, streamed: Any
) -> None:
    """Store the lanes of two vectors alternately: the reverse of `load_alternating`.

    If the tuple ``streamed`` is not empty, use non-temporal stores, which write whole cache lines
    without reading them first. The address must then be a multiple of `STREAM_ALIGNMENT`.
    """
    lanes = code.types[2].lanes
    pointer, align = vector_pointer(code, 0, array, index, 2 * lanes)
    order = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
    stored = code.builder.store(shuffled(code, even, odd, order), pointer, align=align)
    if code.types[4].count > 0:
        stored.align = STREAM_ALIGNMENT
        metadata = code.builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        stored.set_metadata("nontemporal", metadata)


@instruction(
    lambda lanes, array, value: Vector(array.dtype, lanes.count)(lanes, array, array.dtype)
)
def broadcast(code: Code, lanes: Any, array: Any, value: Any) -> Any:
    """A vector with ``value`` in each lane, of the dtype of ``array``."""
    return broadcast_value(code, value, code.types[0].count)


@instruction(lambda value, best: Vector(types.boolean, value.lanes)(value, best))
def exceeds(code: Code, value: Any, best: Any) -> Any:
    """True in the lanes where ``value`` is greater than ``best``, or is NaN."""
    kind, builder = code.types[0].element, code.builder
    if isinstance(kind, types.Float):
        greater = builder.fcmp_ordered(">", value, best)
        return builder.or_(greater, builder.fcmp_unordered("uno", value, value))
    return (builder.icmp_signed if kind.signed else builder.icmp_unsigned)(">", value, best)


@instruction(lambda vector, value: Vector(types.boolean, vector.lanes)(vector, vector.element))
def equals(code: Code, vector: Any, value: Any) -> Any:
    """True in the lanes where a vector of integers equals a scalar."""
    other = broadcast_value(code, value, code.types[0].lanes)
    return code.builder.icmp_signed("==", vector, other)


@instruction(lambda mask, yes, no: yes(mask, yes, no))
def select(code: Code, mask: Any, yes: Any, no: Any) -> Any:
    """The lanes of ``yes`` where ``mask`` is true, else those of ``no``."""
    return code.builder.select(mask, yes, no)


@instruction(lambda left, right: left(left, right))
def add(code: Code, left: Any, right: Any) -> Any:
    """The sum of two vectors of floats."""
    return code.builder.fadd(left, right)


@instruction(lambda left, right: left(left, right))
def divide(code: Code, left: Any, right: Any) -> Any:
    """The quotient of two vectors of floats."""
    return code.builder.fdiv(left, right)
