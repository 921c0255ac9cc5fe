"""Networks: layers one after another."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

from tinyml.arrays import device_scope
from tinyml.layers.base import Layer, device_of
from tinyml_backends import Backend, current_backend, resolve
from tinyml_backends.arrays import Array
from tinyml_backends.memory import Workspace


class Sequential(Layer):
    """Layers run one after another; itself a layer.

    An unpool layer that is tied to its pool layer (``pool=``) finds the switches itself.

    Parameters
    ----------
    layers : sequence of Layer
        In the order of the forward pass.
    name : str

    Attributes
    ----------
    layers : list of Layer
    parameters : list of Parameter
        Of all layers, in their order.

    Raises
    ------
    ValueError
        If there is no layer, two share a name, or one does not take what the one before gives.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Conv2D, ReLU
    >>> from tinyml.net import Sequential
    >>> model = Sequential([Conv2D("conv", (1, 4, 4), 2, 3, padding=1, rng=0), ReLU("relu")])
    >>> model(np.ones((1, 1, 4, 4), np.float32)).shape
    (1, 2, 4, 4)
    >>> model.backward(np.ones((1, 2, 4, 4), np.float32)).shape
    (1, 1, 4, 4)
    """

    def __init__(self, layers: Sequence[Layer], *, name: str = "model") -> None:
        self._workspace = Workspace()
        self._shape: tuple[int, ...] | None = None
        super().__init__(name)
        self.layers = list(layers)
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"layers are named {names}; there must be some, each by its own name")
        # dict.fromkeys keeps a parameter that two layers share from being updated twice.
        self.parameters = list(dict.fromkeys(p for layer in self.layers for p in layer.parameters))
        self.buffers = list(dict.fromkeys(b for layer in self.layers for b in layer.buffers))
        self._running = _OneThread()
        self._connect()

    def _connect(self) -> None:
        """Check that each layer takes what the one before gives; layers of any shape keep it."""
        dim: tuple[int, ...] | None = None
        for layer in self.layers:
            if not layer.has_fixed_input():
                continue
            if dim is None:
                self.input_dim = layer.input_dim
            elif layer.input_dim != dim:
                raise ValueError(
                    f"{layer!r} takes input_dim {layer.input_dim}; the layer before it gives {dim}"
                )
            dim = layer.out_dim
        if dim is not None:
            self.set_input(self.input_dim)

    def has_fixed_input(self) -> bool:
        """Whether some layer has a fixed shape."""
        return any(layer.has_fixed_input() for layer in self.layers)

    def set_input(self, input_dim: tuple[int, ...]) -> None:
        """Prepare every layer for images of another size; the parameters stay."""
        try:
            self.out_dim = self._pass_on(tuple(input_dim))
        except (ValueError, TypeError):
            self._pass_on(self.input_dim)  # nothing half-changed
            raise
        self.input_dim = tuple(input_dim)

    def _pass_on(self, dim: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            layer.set_input(dim)
            dim = layer.out_dim
        return dim

    def forward(self, x: Array) -> Array:
        """Output of the last layer.

        Raises
        ------
        RuntimeError
            If another thread is running this network.
        MixedBackendError
            If ``x`` does not live where the parameters do; nothing is copied silently.
        """
        with self._running.by_this_thread(self), self._memory():
            shape = getattr(x, "shape", None)
            if shape != self._shape or not self.training:
                self._workspace.clear()
                self._shape = shape
            self.forget()  # it is replaced anyway, and need not live beside what replaces it
            for layer in self.layers:
                x = layer(x)  # which runs on the device of x
            return x

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the network's input; adds to those of all parameters."""
        with self._running.by_this_thread(self), device_scope(in_gradient), self._memory():
            for layer in reversed(self.layers):
                in_gradient = layer.backward(in_gradient)
            return in_gradient

    def train(self, training: bool = True) -> Self:
        """Let all layers behave as in training."""
        for layer in self.layers:
            layer.train(training)
        return super().train(training)

    def _memory(self) -> AbstractContextManager[None]:
        """In training, results take the memory of earlier ones that nobody holds any more."""
        return self._workspace.in_use() if self.training else nullcontext()

    def forget(self) -> None:
        """Drop what the layers saved for backward."""
        for layer in getattr(self, "layers", ()):
            layer.forget()

    def scope(self) -> AbstractContextManager[Any]:
        """Context in which the device of the parameters is the current one."""
        return device_scope(self.parameters[0].tensor) if self.parameters else nullcontext()

    @property
    def device(self) -> str:
        """Where the parameters live, for example "numpy" or "cupy:0"."""
        if self.parameters:
            return device_of(self.parameters[0].tensor)
        backend = current_backend()
        return backend.device(backend.array_module.empty(0))

    def to(self, which: str | Backend) -> Self:
        """Move all the network keeps to a backend's library, and drop what forward saved.

        Parameters, gradients, the optimizer's state and running statistics move. Nothing is
        selected: new arrays are made where they were before.

        Raises
        ------
        ValueError, BackendUnavailableError
            If the backend is unknown or cannot run; nothing has then moved.

        Examples
        --------
        >>> from tinyml.layers import Conv2D
        >>> from tinyml.net import Sequential
        >>> Sequential([Conv2D("conv", (1, 4, 4), 2, 3)]).to("numpy").device
        'numpy'
        """
        backend = resolve(which)
        self.forget()
        self._workspace.clear()
        for buffer in (*self.parameters, *self.buffers):
            buffer.to(backend)
        return self

    def replica(self, input_dim: tuple[int, ...] | None = None) -> Self:
        """Copy that shares all parameters and running statistics and owns its saved state.

        Another thread can run it, and with ``input_dim`` it takes images of another size.

        Examples
        --------
        >>> from tinyml.layers import Conv2D
        >>> from tinyml.net import Sequential
        >>> model = Sequential([Conv2D("conv", (1, 4, 4), 2, 3)])
        >>> larger = model.replica((1, 9, 9))
        >>> larger.out_dim, larger.parameters[0] is model.parameters[0]
        ((2, 7, 7), True)
        """
        memo: dict[int, Any] = {id(b): b for b in (*self.parameters, *self.buffers)}
        memo.update((id(saved), None) for saved in _saved(self))
        twin = copy.deepcopy(self, memo)
        twin.forget()
        if input_dim is not None:
            twin.set_input(input_dim)
        return twin


def _saved(layer: Layer) -> Iterator[object]:
    """Everything that forward passes have saved, so that a copy can leave it out."""
    for attribute in layer.saves:
        value = getattr(layer, attribute)
        if not isinstance(value, bool | None):  # True is one object for everybody
            yield value
    for child in getattr(layer, "layers", ()):
        yield from _saved(child)


class _OneThread:
    """Lets one thread in at a time; a copy of it is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return _OneThread, ()

    @contextmanager
    def by_this_thread(self, model: Layer) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"{model!r} is being run by another thread, and its layers keep the state of one "
                "pass; give each thread its own model.replica()"
            )
        try:
            yield
        finally:
            self._lock.release()
