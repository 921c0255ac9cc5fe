"""Index expressions of the stand-in array: which are allowed, and which select a cell twice."""

from typing import Any

import numpy as np

from emulation.memory import check_device


def parse(key: Any, array_type: type) -> tuple[tuple[Any, ...], list[Any]]:
    """The index as a tuple, and the arrays in it.

    The tuple contains an ellipsis, so that no result is a scalar.
    """
    items = key if isinstance(key, tuple) else (key,)
    arrays = []
    for item in items:
        if isinstance(item, array_type):
            if item.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer or boolean type")
            arrays.append(item)
        elif isinstance(item, bool | np.bool) or not (
            item is None or item is Ellipsis or isinstance(item, slice | int | np.integer)
        ):
            raise TypeError(f"an index of {type(item)}; use a CuPy array")
    if not any(item is Ellipsis for item in items):
        items = (*items, Ellipsis)
    return items, arrays


def host(items: tuple[Any, ...], array_type: type) -> tuple[Any, ...]:
    """The same index with NumPy arrays."""
    found = []
    for item in items:
        if isinstance(item, array_type):
            check_device(item._memory)
            item = item._host
        found.append(item)
    return tuple(found)


def has_duplicates(items: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether the arrays in a valid index select a cell twice."""
    last_axes = sum(_axes(i) for i in items[[i is Ellipsis for i in items].index(True) :])
    axis, lengths, coordinates = 0, [], []
    for item in items:
        if item is Ellipsis:
            axis = len(shape) - last_axes
        elif isinstance(item, np.ndarray):
            of_item = np.nonzero(item) if item.dtype.kind == "b" else (item,)
            coordinates += of_item
            lengths += shape[axis : axis + len(of_item)]
            axis += len(of_item)
        else:
            axis += _axes(item)
    coordinates = [np.asarray(c, np.int64) % n for c, n in zip(coordinates, lengths, strict=True)]
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*coordinates)), tuple(lengths))
    return np.unique(flat).size != flat.size


def _axes(item: Any) -> int:
    """Number of the array's axes that an item of an index applies to."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, np.ndarray) and item.dtype.kind == "b":
        return item.ndim
    return 1
