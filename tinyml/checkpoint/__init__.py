"""Checkpoints: networks and their weights in files of the safetensors format.

The format is described on the page docs/checkpoints.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyml_backends.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

    from tinyml.layers.base import Layer

__all__ = ["Checkpoint", "load", "load_weights", "read", "register_layer", "save", "write"]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    model : Layer
    info : dict
        What `save` was given: whatever else is needed to use the model.
    extra : dict of str to array
        Tensors beside those of the model, such as an optimizer's.
    """

    model: "Layer"
    info: dict[str, Any]
    extra: "dict[str, np.ndarray[Any, Any]]" = field(default_factory=dict)


def save(
    model: "Layer",
    path: str | Path,
    *,
    info: Mapping[str, Any] | None = None,
    extra: "Mapping[str, np.ndarray[Any, Any]] | None" = None,
) -> None:
    """Write a network with its weights to a file.

    A process that is killed meanwhile, or a full disk, leaves an existing file as it was.

    Parameters
    ----------
    model : Layer
        A network, or any layer, on any device. Layers are saved by the arguments of their
        constructors; a random generator among them (``rng``) is left out.
    path : str or Path
        Its ending is usually ``.safetensors``.
    info : mapping, optional
        What JSON can hold: numbers, strings, lists and dicts.
    extra : mapping of str to array, optional
        Tensors that do not belong to the model. Their names must not be those of the model's.

    Raises
    ------
    CheckpointError
        If the model cannot be saved: two layers beside each other have the same name, or an
        argument of a layer is nothing that JSON can hold.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, tinyml
    >>> from tinyml.models import lenet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tinyml.save(lenet((1, 8, 8), 10), f"{folder}/lenet.safetensors")
    ...     model = tinyml.load(f"{folder}/lenet.safetensors")
    >>> model
    Sequential('lenet')
    """
    write(model, path, info=info, extra=extra)


def write(
    model: "Layer",
    path: str | Path,
    *,
    info: Mapping[str, Any] | None = None,
    extra: "Mapping[str, np.ndarray[Any, Any]] | None" = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """As `save`, with the state of a training."""
    from tinyml.checkpoint import configuration, file, names
    from tinyml.layers.base import Layer

    if not isinstance(model, Layer):
        raise TypeError(f"model is {model!r}; it must be a layer or a network")
    slots = names.slots(model)
    tensors = {slot.name: slot.buffer.tensor for slot in slots if slot.first}
    extra = dict(extra or {})
    both = sorted(tensors.keys() & extra.keys())
    if both:
        raise CheckpointError(f"extra has the names {both}, which are tensors of the model")
    described = {
        "format": file.FORMAT,
        "model": configuration.describe(model),
        "shared": {slot.name: slot.same_as for slot in slots if not slot.first},
        "extra": sorted(extra),
        "info": dict(info or {}),
        "training": training,
    }
    file.write(Path(path), described, tensors | extra)


def load(path: str | Path, *, layers: "Iterable[type[Layer]]" = ()) -> "Layer":
    """Build the network that `save` wrote, on the selected backend.

    Parameters
    ----------
    path : str or Path
    layers : iterable of classes
        The user's own layers in the file, unless `register_layer` has made them known.

    Raises
    ------
    CheckpointError
        If the file is damaged, was written by a newer version, or has a layer that is not known.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, tinyml
    >>> from tinyml.layers import Linear
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tinyml.save(Linear("linear", 3, 2), f"{folder}/linear.safetensors")
    ...     tinyml.load(f"{folder}/linear.safetensors")
    Linear('linear')
    """
    return read(path, layers=layers).model


def read(path: str | Path, *, layers: "Iterable[type[Layer]]" = ()) -> Checkpoint:
    """As `load`, with what the file holds beside the network."""
    from tinyml.checkpoint import configuration, file, names
    from tinyml.core.initial import without_memory

    path = Path(path)
    contents = file.read(path)
    if contents.described is None:
        raise CheckpointError(
            f"{path} has weights, but not the network they belong to; build it and call its "
            "load_weights"
        )
    with file.errors_of(path):
        described, tensors = contents.described, contents.tensors
        extra = {name: tensors.pop(name) for name in described["extra"]}
        with without_memory():
            model = configuration.build(described["model"], layers)
        names.share(model, described["shared"])
        names.assign(model, tensors, strict=True, new=True)
        return Checkpoint(model, described["info"], extra)


def load_weights(
    model: "Layer", path: str | Path, strict: bool = True
) -> tuple[list[str], list[str]]:
    """See `Layer.load_weights`."""
    from tinyml.checkpoint import file, names

    path = Path(path)
    contents = file.read(path)
    with file.errors_of(path):
        tensors = contents.tensors
        for name in (contents.described or {}).get("extra", ()):
            tensors.pop(name)
        return names.assign(model, tensors, strict=strict, new=False)


def register_layer(layer: "type[Layer]") -> "type[Layer]":
    """Make a user's own layer known, so that files that have it can be loaded; a decorator.

    Files name the class of a layer. Nothing is imported by such a name: classes that are neither
    tinyml's nor registered are refused.

    Raises
    ------
    TypeError
        If it is no class of layers.
    ValueError
        If another class has that name.

    Examples
    --------
    >>> import tinyml
    >>> from tinyml.layers import Layer
    >>> @tinyml.register_layer
    ... class Twice(Layer):
    ...     def forward(self, x):
    ...         return 2 * x
    ...
    ...     def backward(self, in_gradient):
    ...         return 2 * in_gradient
    """
    from tinyml.checkpoint import configuration

    configuration.register(layer)
    return layer
