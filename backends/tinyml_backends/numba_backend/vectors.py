"""Short vectors inside compiled kernels, as LLVM has them.

LLVM makes vector code of plain loops too, but for a row of 14 or 28 elements it checks for
overlaps, peels and finishes longer than it works. Here a kernel says itself what it does side by
side. The first argument ``lanes`` is a tuple whose length is the number of elements: its type then
holds it.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from tinyml_backends.numba_backend.compiled import AHEAD, LINE, prefetch

#: Lanes of a vector, as many as a cache line has float32, and of one where there is no room.
WIDE, ONE = (0,) * 16, (0,)


class Vector(types.Type):  # type: ignore[misc]
    """Type of some elements side by side; they live in registers."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)  # type: ignore[untyped-decorator,unused-ignore]
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        element = manager[kind.element].get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


def _address(context: Any, builder: Any, kind: Any, where: Any, lanes: int) -> Any:
    """Pointer to ``lanes`` elements of an array from an index on, and how it is aligned."""
    array, index = where
    data = context.make_array(kind)(context, builder, array).data
    element = builder.gep(data, [index], inbounds=True)
    vector = ir.VectorType(data.type.pointee, lanes)
    return builder.bitcast(element, vector.as_pointer()), kind.dtype.bitwidth // 8


def _picked(builder: Any, left: Any, right: Any, places: Any) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
    return builder.shuffle_vector(left, right, mask)


def _loading(first: int, step: int) -> Any:
    """Every ``step``-th of the elements from the index on, from the ``first`` on."""

    def typed(_: Any, lanes: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            total = lanes.count * step
            place, align = _address(context, builder, array, arguments[1:], total)
            vector = builder.load(place, align=align)
            places = range(first, total, step)
            return vector if step == 1 else _picked(builder, vector, vector, places)

        return Vector(array.dtype, lanes.count)(lanes, array, types.intp), generate

    return intrinsic(typed)


def _fetching(step: int) -> Any:
    """Ask for the lines, `AHEAD` bytes on, of ``step`` times as many elements as lanes."""

    def typed(_: Any, lanes: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(array)(context, builder, arguments[1]).data
            place, size = builder.gep(data, [arguments[2]]), array.dtype.bitwidth // 8
            for line in range(0, step * lanes.count * size, LINE):
                prefetch(builder, place, ir.IntType(64)(AHEAD + line))
            return context.get_dummy_value()

        return types.void(lanes, array, types.intp), generate

    return intrinsic(typed)


def _store(_: Any, array: Any, index: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, align = _address(context, builder, array, arguments[:2], vector.lanes)
        builder.store(arguments[2], place, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


def _store_zipped(_: Any, array: Any, index: Any, even: Any, odd: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = even.lanes
        place, align = _address(context, builder, array, arguments[:2], 2 * lanes)
        places = (i // 2 + i % 2 * lanes for i in range(2 * lanes))
        zipped = _picked(builder, arguments[2], arguments[3], tuple(places))
        builder.store(zipped, place, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, even, odd), generate


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return _picked(builder, one, one, (0,) * lanes)


def _full(_: Any, lanes: Any, array: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[2], lanes.count)

    return Vector(array.dtype, lanes.count)(lanes, array, array.dtype), generate


def _beats(_: Any, value: Any, leader: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(value.element, types.Float):  # unordered: one of the two is NaN
            greater = builder.fcmp_ordered(">", *arguments)
            return builder.or_(greater, builder.fcmp_unordered("uno", arguments[0], arguments[0]))
        compare = builder.icmp_signed if value.element.signed else builder.icmp_unsigned
        return compare(">", *arguments)

    return Vector(types.boolean, value.lanes)(value, leader), generate


def _equals(_: Any, vector: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.icmp_signed("==", arguments[0], _spread(builder, arguments[1], vector.lanes))

    return Vector(types.boolean, vector.lanes)(vector, vector.element), generate


def _choose(_: Any, mask: Any, yes: Any, no: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return yes(mask, yes, no), generate


def _arithmetic(operation: str) -> Any:
    def typed(_: Any, one: Any, other: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments)

        return one(one, other), generate

    return intrinsic(typed)


#: ``load(lanes, array, i)``: the elements from ``i`` on; ``evens`` and ``odds``: every second one
#: of twice as many, all of which must lie inside the array.
load, evens, odds = _loading(0, 1), _loading(0, 2), _loading(1, 2)
#: ``fetch_ahead(lanes, array, i)`` asks for what ``load`` will read some iterations later, and
#: ``fetch_pairs_ahead`` for what ``evens`` and ``odds`` will; it may lie outside the array.
fetch_ahead, fetch_pairs_ahead = _fetching(1), _fetching(2)
#: ``store(array, i, vector)``; ``store_zipped(array, i, evens, odds)`` stores both, taking turns.
store, store_zipped = intrinsic(_store), intrinsic(_store_zipped)
#: ``full(lanes, array, value)``: ``value`` in each lane, as an element of ``array``.
full = intrinsic(_full)
#: ``beats(value, leader)``: where it is greater, or NaN. ``equals(integers, scalar)``.
beats, equals = intrinsic(_beats), intrinsic(_equals)
#: ``choose(mask, yes, no)``
choose = intrinsic(_choose)
#: ``plus(one, other)`` and ``over(one, other)`` of floats.
plus, over = _arithmetic("fadd"), _arithmetic("fdiv")
