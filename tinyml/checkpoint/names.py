"""Names of a network's tensors: the layers' names down the tree, and the attribute."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyml.arrays import zeros_like
from tinyml.core.parameter import Buffer, Parameter
from tinyml.layers.base import NO_MEMBERS, Layer
from tinyml_backends import CheckpointError, current_backend, owner_of
from tinyml_backends.arrays import Array, quiet

#: Characters that the paths of all layers may have: deep below long names, each has all of them.
_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Slot:
    """A place in a network that refers to a parameter or buffer."""

    name: str
    buffer: Buffer
    same_as: str
    """Name of the first slot with this buffer."""
    put: Callable[[Buffer], None]
    """Makes the slot refer to another one."""

    @property
    def first(self) -> bool:
        """Whether no slot before this one has the same buffer."""
        return self.same_as == self.name


def slots(model: Layer) -> list[Slot]:
    """All slots of a network in the order of its layers.

    Raises
    ------
    CheckpointError
        If two layers beside each other have the same name, or two tensors.
    """
    found: list[Slot] = []
    first: dict[int, str] = {}
    for path, layer in paths(model).items():
        for key, buffer, put in _buffers(layer):
            name = f"{path}.{key}" if path else key
            same_as = first.setdefault(id(buffer), name)
            found.append(Slot(name, buffer, same_as, put))
    twice = [name for name, count in Counter(slot.name for slot in found).items() if count > 1]
    if twice:
        raise CheckpointError(f"{model!r} has several tensors named {twice}; rename their layers")
    return found


def paths(model: Layer) -> dict[str, Layer]:
    """Layers by their names down the tree; the model itself is ""."""
    found: dict[str, Layer] = {}
    seen: set[int] = set()
    characters = 0

    def visit(layer: Layer, path: str) -> None:
        nonlocal characters
        seen.add(id(layer))
        characters += len(path)
        if characters > _CHARACTERS:
            raise CheckpointError("the names of its layers down the tree are too long")
        if path in found:
            raise CheckpointError(
                f"two layers of {model!r} are named {path!r}; layers beside each other must have "
                "different names"
            )
        found[path] = layer
        for child in _children(layer):
            if id(child) not in seen:
                visit(child, f"{path}.{child.name}" if path else child.name)

    visit(model, "")
    return found


def share(model: Layer, shared: Mapping[str, str]) -> None:
    """Let slots refer to the buffer of another one.

    Raises
    ------
    CheckpointError
        If the network has no such slots.
    """
    by_name = {slot.name: slot for slot in slots(model)}
    for name, source in shared.items():
        if name not in by_name or source not in by_name:
            raise CheckpointError(f"{name!r} cannot share {source!r}; the network lacks one")
        buffer = by_name[source].buffer
        if by_name[name].buffer is not buffer:  # the constructor may have shared it
            by_name[name].put(buffer)


def assign(
    model: Layer,
    tensors: Mapping[str, "np.ndarray[Any, Any]"],
    *,
    strict: bool,
    new: bool,
) -> tuple[list[str], list[str]]:
    """Set a network's tensors by their names; see `Layer.load_weights`.

    In a ``new`` network, which was built without memory, they keep their dtype and are made on the
    selected backend.
    """
    ours = slots(model)
    known = {slot.name for slot in ours}
    source = {slot.same_as: slot.name for slot in ours if slot.name in tensors}
    surplus = [name for name in tensors if name not in known]
    missing = [slot.name for slot in ours if slot.first and slot.name not in source]
    wrong, chosen = [], []
    for slot in ours:
        if not slot.first or slot.name not in source:
            continue
        tensor, old = tensors[source[slot.name]], slot.buffer.tensor
        if tensor.shape != tuple(old.shape):
            wrong.append(f"{slot.name} has shape {tensor.shape}, not {tuple(old.shape)}")
        elif not new and old.dtype.kind == "f" != tensor.dtype.kind:
            wrong.append(f"{slot.name} has dtype {tensor.dtype}, not a floating one")
        elif not new and old.dtype.kind != "f" and tensor.dtype != old.dtype:
            wrong.append(f"{slot.name} has dtype {tensor.dtype}, not {old.dtype}")
        chosen.append((slot.buffer, tensor))
    problems = [*wrong]
    if strict:
        problems += [f"{name} is missing" for name in missing]
        problems += [f"{name} is surplus" for name in surplus]
    if problems:
        raise CheckpointError(f"its tensors are not those of {model!r}: {'; '.join(problems)}")
    made = [_made(buffer, tensor, new) for buffer, tensor in chosen]  # all, or none is set
    model.forget()
    for (buffer, _), array in zip(chosen, made, strict=True):
        buffer.tensor = array
        if new and isinstance(buffer, Parameter):
            buffer.gradient = zeros_like(array)
    return missing, surplus


@quiet
def _made(buffer: Buffer, tensor: "np.ndarray[Any, Any]", new: bool) -> Array:
    """New values of a buffer; in a network that is not ``new``, of the old dtype and device."""
    if new:
        return current_backend().asarray(tensor)
    owner = owner_of(buffer.tensor)
    with owner.scope(buffer.tensor):
        return owner.asarray(tensor.astype(buffer.tensor.dtype, copy=False))


def _children(layer: Layer) -> Iterator[Layer]:
    for _, value, _ in _values(layer):
        if isinstance(value, Layer):
            yield value


def _buffers(layer: Layer) -> Iterator[tuple[str, Buffer, Callable[[Buffer], None]]]:
    for key, value, put in _values(layer):
        if isinstance(value, Buffer):
            yield key, value, put


def _values(layer: Layer) -> Iterator[tuple[str, Any, Callable[[Any], None]]]:
    """Attributes of a layer, also those in lists, tuples and dicts, with their names."""
    seen: set[int] = set()

    def visit(name: str, value: Any, put: Callable[[Any], None]) -> Iterator[Any]:
        if not isinstance(value, list | tuple | dict):
            yield name, value, put
        elif id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in list(items):
                yield from visit(f"{name}.{key}", inner, _item_setter(value, key))

    for name, value in list(vars(layer).items()):
        if name not in NO_MEMBERS:
            yield from visit(name, value, _attribute_setter(layer, name))


def _attribute_setter(layer: Layer, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(layer, name, value)


def _item_setter(container: Any, key: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        if isinstance(container, tuple):
            raise CheckpointError("a tuple holds a shared tensor; only lists and dicts may")
        container[key] = value

    return put
