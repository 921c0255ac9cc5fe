"""What all layers share: the tree of layers and parameters, and the checks on inputs."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tinyml.arrays import check_shape
from tinyml.core.called import Called
from tinyml.core.parameter import Buffer, Parameter
from tinyml_backends import Backend, MixedBackendError, Window, current_backend, owner_of, resolve
from tinyml_backends.arrays import Array

if TYPE_CHECKING:
    from pathlib import Path

    from tinyml.summary import Summary

Dim = tuple[int, ...]

#: Key in deepcopy's memo (its other keys are ids) that makes a copy leave out what forward saved.
REPLICA = "replica"


class Layer(Called):
    """One step of a network: ``forward`` computes its output, ``backward`` its gradient.

    Layers form a tree. The children of a layer are the layers in its attributes, also inside lists,
    tuples and dicts; its parameters and buffers are found in the same way, so nothing is
    registered. A layer runs once in a forward pass: a second forward replaces what the first one
    saved. Parameter gradients accumulate until `zero_gradients`.

    Parameters
    ----------
    name : str
        Names the layer in messages; layers added to one network must have different names.

    Attributes
    ----------
    name : str
    type : str
        Name of the class.
    training : bool
        Whether the layer is in training mode; `train` and `eval` set it.
    saved : object
        What ``forward`` saves for ``backward``; None before a forward pass and after `forget`.
    input_dim, out_dim : tuple of int
        Shapes of one sample, channels first. Optional: a network uses them to check layers when
        they are added.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Layer, ReLU
    >>> class Residual(Layer):
    ...     def __init__(self, name, body):
    ...         super().__init__(name)
    ...         self.body = body
    ...
    ...     def forward(self, x):
    ...         return x + self.body(x)
    ...
    ...     def backward(self, in_gradient):
    ...         return in_gradient + self.body.backward(in_gradient)
    >>> block = Residual("block", ReLU("relu"))
    >>> block(np.array([-1.0, 2.0]))
    array([-1.,  4.])
    >>> [layer.name for layer in block.walk()]
    ['block', 'relu']
    """

    name: str
    type: str
    training: bool
    saved: Any
    input_dim: Dim
    out_dim: Dim

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: name is {name!r}; it must be a str")
        self.name = name
        self.type = type(self).__name__
        self.training = True
        self.saved = None

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Output of the layer; a subclass defines it."""
        raise NotImplementedError(f"{self.type}.forward")

    def backward(self, in_gradient: Array) -> Any:
        """Gradient with respect to the input, or a tuple with one for each of several inputs."""
        raise NotImplementedError(f"{self.type}.backward")

    def reverse(self, signal: Array, rule: str) -> Any:
        """Signal of the input, given that of the output, as `tinyml.visualize.deconvnet` needs it.

        By default ``backward``, for every rule; gradients of parameters are not needed.
        """
        return self.backward(signal)

    def output_dim(self, *dims: Any) -> Any:
        """Shape of one output sample for inputs of these shapes.

        By default ``out_dim`` if the layer has set it, else the shape of the first input.
        """
        return getattr(self, "out_dim", dims[0])

    def multiply_adds(self, *dims: Any) -> int:
        """Multiplications, each with its addition, of one sample for inputs of these shapes.

        Those of products with weights, as is usual; layers without such products have none.
        """
        return 0

    def summary(self, *dims: Dim) -> "Summary":
        """Shapes, parameters, multiply-adds and memory of every layer, as a table and as data.

        Parameters
        ----------
        *dims : tuple of int
            Shape of one sample of each input; by default what the layer was built for.

        Raises
        ------
        ValueError
            If shapes are missing, or a layer does not accept them.

        Examples
        --------
        >>> from tinyml.models import lenet
        >>> lenet((1, 28, 28), 10).summary().parameters
        107786
        """
        from tinyml.summary import summarize  # it needs graphs, which need this module

        return summarize(self, dims)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return ``forward`` of the same arguments, run on the device of the first."""
        with scope_of(inputs[0] if inputs else None):
            return self.forward(*inputs, **options)

    def __repr__(self) -> str:
        return f"{self.type}({self.name!r})"

    # -- the tree ----------------------------------------------------------------------------

    def walk(self) -> "Iterator[Layer]":
        """Yield this layer and every layer below it, each once, a parent before its children."""
        return (found for found in _reachable(self) if isinstance(found, Layer))

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters of this layer and all layers below it, each listed once."""
        return [found for found in _reachable(self) if isinstance(found, Parameter)]

    @property
    def buffers(self) -> list[Buffer]:
        """Buffers, without the parameters, of this layer and all layers below it."""
        buffers = (found for found in _reachable(self) if isinstance(found, Buffer))
        return [buffer for buffer in buffers if not isinstance(buffer, Parameter)]

    def train(self, training: bool = True) -> Self:
        """Put this layer and all layers below it in training mode, or if False in eval mode.

        Eval mode also releases what networks keep for training (see `release`).
        """
        for layer in self.walk():
            layer.training = training
            if not training:
                layer.release()
        return self

    def eval(self) -> Self:
        """Put this layer and all layers below it in eval mode.

        Batch norm, for example, then uses its running statistics.
        """
        return self.train(False)

    def zero_gradients(self) -> None:
        """Set the gradients of all `parameters` to zero."""
        for parameter in self.parameters:
            parameter.zero_gradient()

    def forget(self) -> None:
        """Drop what this layer and all layers below it saved for a backward pass."""
        for layer in self.walk():
            layer.saved = None
            layer.release()

    def release(self) -> None:
        """Release what a network keeps besides `saved`: its owner, and memory for training.

        Other layers keep nothing else, so that this does nothing.
        """

    def load_weights(self, path: "str | Path", strict: bool = True) -> tuple[list[str], list[str]]:
        """Set parameters and buffers to those of a safetensors file, by their names.

        A name is the names of the layers down the tree and the attribute, with its index or key
        where that is a list or dict: ``"encoder1.conv1.weight"``. Values take the dtype of the
        tensor that they replace, and its device.

        Parameters
        ----------
        path : str or Path
            What `tinyml.save` wrote, or any other safetensors file.
        strict : bool
            Whether the names must be the same. If not, tensors that only one side has are left
            out.

        Returns
        -------
        missing, surplus : list of str
            Names that only the model has, and names that only the file has.

        Raises
        ------
        CheckpointError
            If the file is damaged, a tensor has another shape or, if ``strict``, a name is missing
            or surplus. The message lists all of them, and nothing has changed.
        OSError
            If the file cannot be read.
        """
        from tinyml.checkpoint import load_weights  # it needs graphs, which need this module

        return load_weights(self, path, strict)

    # -- device ------------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Device of the parameters and buffers, for example "numpy" or "cupy:0".

        Without any, the device where the selected backend makes new arrays.
        """
        for buffer in _reachable(self):
            if isinstance(buffer, Buffer):
                return owner_of(buffer.tensor).device(buffer.tensor)
        backend = current_backend()
        return backend.device(backend.asarray(0))

    def scope(self) -> AbstractContextManager[Any]:
        """Context in which the device of the parameters is the current one."""
        for found in _reachable(self):
            if isinstance(found, Parameter):
                return scope_of(found.tensor)
        return nullcontext()

    def to(self, which: str | Backend) -> Self:
        """Move parameters and buffers to a backend's library, and drop what forward saved.

        Gradients and the optimizer's state move with the parameters. The selected backend, which
        makes new arrays, does not change.

        Raises
        ------
        ValueError, BackendUnavailableError
            If the backend is unknown or cannot run; nothing has moved then.

        Examples
        --------
        >>> from tinyml.layers import Conv2D
        >>> Conv2D("conv", (1, 4, 4), 2, 3).to("numpy").device
        'numpy'
        """
        backend = resolve(which)
        self.forget()
        for buffer in (*self.parameters, *self.buffers):
            buffer.to(backend)
        return self

    def replica(self) -> Self:
        """Copy that shares all parameters and buffers but has its own saved state.

        Another thread can run it. Replicas add to the same gradients and running statistics, and
        additions of two threads at the same time can be lost: only one replica may train at a time.
        An unpool layer of the copy is tied to the copy of its pool layer, if that is in this layer.

        Examples
        --------
        >>> from tinyml.layers import Conv2D
        >>> from tinyml.net import Sequential
        >>> model = Sequential([Conv2D("conv", (1, 4, 4), 2, 3)])
        >>> model.replica().parameters[0] is model.parameters[0]
        True
        """
        inside = list(_reachable(self))
        outside = {tie.layer for tie in inside if isinstance(tie, Tie)} - set(inside)
        shared = (*(found for found in inside if isinstance(found, Buffer)), *outside)
        memo: dict[Any, Any] = {id(kept): kept for kept in shared}
        memo[REPLICA] = True
        return copy.deepcopy(self, memo)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            leave_out = name == "saved" and REPLICA in memo
            try:
                vars(twin)[name] = None if leave_out else copy.deepcopy(value, memo)
            except TypeError as error:
                raise TypeError(f"{self!r}: {name} cannot be copied: {error}") from error
        return twin

    # -- for subclasses ----------------------------------------------------------------------

    def saved_by_forward(self) -> Any:
        """Return `saved`; raise RuntimeError if there was no forward pass."""
        if self.saved is None:
            raise RuntimeError(f"{self!r}: backward needs a forward pass before it")
        return self.saved

    def check_numbers(self, name: str, array: Array) -> None:
        """Raise TypeError for an array that holds no floats or integers."""
        owner_of(array)  # its error names the argument
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"{self!r}: {name} has dtype {array.dtype}; it must hold floats or integers"
            )

    def check(self, name: str, array: Array, shape: tuple[int | str, ...]) -> None:
        """Raise an error for an array of another shape, or on another device than the parameters.

        A str in ``shape`` stands for any length. The errors are ValueError and MixedBackendError,
        and TypeError for an array that does not hold real numbers.
        """
        self.check_numbers(name, array)
        place = owner_of(array).device(array)
        for buffer in vars(self).values():
            if isinstance(buffer, Buffer):
                home = owner_of(buffer.tensor).device(buffer.tensor)
                if home != place:
                    raise MixedBackendError(
                        f"{self!r} lives on {home} and its {name} on {place}; move the {name}, "
                        f"model(tinyml.asarray(x, {home!r})), or the model, model.to({place!r})"
                    )
                break
        check_shape(f"{self!r}: {name}", array, shape)


L = TypeVar("L", bound=Layer)


class Tie(Generic[L]):
    """A reference to another layer of the same network that does not make it a child."""

    layer: L

    def __init__(self, layer: L) -> None:
        self.layer = layer


#: Attributes whose layers and buffers are no members of the layer.
NO_MEMBERS = ("saved", "given")
_LEAVES = frozenset((int, float, bool, str, type(None), Window))
_MEMBERS = (Layer, Buffer, Tie)
_CONTAINERS = (dict, list, tuple)


def members(layer: Layer) -> "Iterator[Layer | Buffer | Tie[Layer]]":
    """Layers, buffers and ties in a layer's attributes, also in lists, tuples and dicts."""
    containers: set[int] = set()
    waiting: list[Any] = [value for name, value in vars(layer).items() if name not in NO_MEMBERS]
    waiting.reverse()
    while waiting:
        value = waiting.pop()
        if type(value) in _LEAVES:  # most values are, and this is faster than isinstance
            continue
        if isinstance(value, _MEMBERS):
            yield value
        elif isinstance(value, _CONTAINERS) and id(value) not in containers:
            containers.add(id(value))
            waiting.extend(reversed(value.values() if isinstance(value, dict) else value))


def _reachable(root: Layer) -> "Iterator[Layer | Buffer | Tie[Layer]]":
    """The members of ``root`` and of every layer below it, each once; ``root`` is the first."""
    seen: set[int] = set()
    waiting: list[Layer | Buffer | Tie[Layer]] = [root]
    while waiting:
        found = waiting.pop()
        if id(found) not in seen:
            seen.add(id(found))
            yield found
            if isinstance(found, Layer):
                waiting.extend([*members(found)][::-1])


def scope_of(array: object) -> AbstractContextManager[Any]:
    """Context in which the device of ``array`` is the current one."""
    try:
        return owner_of(array).scope(array)
    except TypeError:  # not an array; forward raises an error that names the argument
        return nullcontext()
