"""`Learner`, which trains a model in batches, evaluates it and predicts with it."""

import math
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from tinyml.core.parameter import Parameter, moved
from tinyml.graph import Graph
from tinyml.layers.base import Layer, scope_of
from tinyml.optims import Optimizer
from tinyml.progress import Progress
from tinyml_backends import owner_of, resolve
from tinyml_backends.arguments import generator, integer
from tinyml_backends.arrays import Array, quiet

Batch = tuple[Array, Array]
Data = Batch | Iterable[Batch]


class Loss(Protocol):
    """What a learner minimises."""

    def forward(self, output: Array, target: Array) -> float:
        """Loss of a batch."""

    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the output."""


class Learner:
    """Fits a model to data.

    Batches are moved to the model's device, so that NumPy data can train a model on a GPU.

    Parameters
    ----------
    model : Layer
        A network, or any layer.
    loss : object with ``forward(output, target)`` and ``backward()``
    optimizer : object with ``update(parameters)`` and ``learning_rate``
        A new optimizer starts afresh, also on a model that another one has trained.

    Attributes
    ----------
    history : dict
        What the last call of `fit` returned or, if it was interrupted, had so far: "loss" is a list
        of the loss of each step. "validation", present if there was validation data, is a list of
        what `evaluate` returned after each epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.data import load_digits
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import SoftmaxCrossEntropy
    >>> from tinyml.models import segnet
    >>> from tinyml.optims import Adam
    >>> images = load_digits().images[:64, None] / np.float32(16)
    >>> is_ink = (images[:, 0] > 0.5).astype(int)
    >>> model = segnet((1, 8, 8), n_classes=2, depth=2, channels=4)
    >>> learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.01))
    >>> history = learner.fit((images, is_ink), epochs=4, batch_size=16)
    >>> len(history["loss"]), history["loss"][-1] < history["loss"][0]
    (16, True)
    >>> learner.predict(images).shape
    (64, 2, 8, 8)
    """

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        _check_object("model", model, ("forward", "backward", "walk"), "a layer or a network")
        _check_object("loss", loss, ("forward", "backward"), "a loss such as SoftmaxCrossEntropy()")
        _check_object("optimizer", optimizer, ("update",), "an optimizer such as Adam()")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.history: dict[str, list[Any]] = {}

    def __repr__(self) -> str:
        return f"Learner({self.model!r}, {self.loss!r}, {self.optimizer!r})"

    def fit(
        self,
        train: Data,
        validation: Data | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        seed: int = 0,
    ) -> dict[str, list[Any]]:
        """Train, with a progress bar where the output is a terminal.

        A second call goes on with the weights of the model and with the state of the optimizer, and
        begins a new `history`; what an earlier call returned does not change.

        Parameters
        ----------
        train : (x, y) or iterable of (x, y) batches
            A pair of arrays is shuffled again for each epoch and split into batches; the batches of
            an iterable are used in its order.
        validation : as ``train``, optional
            Evaluated after each epoch.
        epochs, batch_size, seed : int
            ``seed`` is that of the shuffling: the same seed gives the same order on every backend.

        Returns
        -------
        dict
            The attribute ``history``.

        Raises
        ------
        ValueError
            If there is nothing to train on, or ``x`` and ``y`` do not have the same length.
        FloatingPointError
            If the loss or a gradient is not finite. Weights and running statistics stay as they
            were before that step.
        """
        integer("epochs", epochs, 1)
        rng = generator(integer("seed", seed, 0))
        for name, data in (("train", train), ("validation", validation)):
            if data is not None or name == "train":
                _check_data(name, data, batch_size)
        self.history = {"loss": []}
        for epoch in range(1, epochs + 1):
            batches, count = _batches(train, batch_size, rng)
            label = f"epoch {epoch}/{epochs}" if epochs > 1 else "training"
            images, start = 0, time.perf_counter()
            with Progress(total=count, desc=label, unit="step") as progress:
                for x, y in batches:
                    self.history["loss"].append(self.step(x, y))
                    images += len(x)
                    speed = images / (time.perf_counter() - start)
                    loss = f"{self.history['loss'][-1]:.4f}"
                    progress.set_postfix_str(f"loss {loss}, {speed:.0f} images/s", refresh=False)
                    progress.update()
            if not images:
                raise ValueError(
                    f"train has no batch in epoch {epoch}; it must be (x, y) or an iterable that "
                    "can be run through once for each epoch, such as a list"
                )
            if validation is not None:
                result = self.evaluate(validation, batch_size=batch_size)
                self.history.setdefault("validation", []).append(result)
        return self.history

    def step(self, x: Array, y: Array) -> float:
        """Train on one batch and return its loss before the step.

        Raises
        ------
        ValueError
            If the batch is empty.
        FloatingPointError
            If the loss or a gradient is not finite. Weights and running statistics stay as they
            were.
        """
        if len(x) == 0:
            raise ValueError("a batch has no samples; leave empty batches out")
        with self.model.scope():
            return self._step(x, y)

    def _step(self, x: Array, y: Array) -> float:
        _check_owner(self.model)
        model = self.model.train()
        parameters = model.parameters
        buffers = [(buffer, buffer.tensor.copy()) for buffer in model.buffers]
        for parameter in parameters:
            parameter.zero_gradient()
        try:
            loss = self.loss.forward(model(self._on_device(x)), self._on_device(y))
            if not math.isfinite(loss):
                self._check_batch(x=x, y=y)
            self._check_finite("loss", loss)
            model.backward(self.loss.backward())
            self._check_finite("gradient", _total(parameters))
        except BaseException:
            for buffer, tensor in buffers:
                buffer.tensor = tensor
            model.forget()
            raise
        self.optimizer.update(parameters)
        return loss

    def _check_batch(self, **arrays: Array) -> None:
        """Tell data that is not finite apart from a training that diverges."""
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not bool(owner_of(array).xp.isfinite(array).all()):
                step = len(self.history.get("loss", ())) + 1
                raise FloatingPointError(
                    f"{name} of step {step} holds NaN or infinity, so its loss is not finite; the "
                    "model keeps the weights it had before that step. Remove such samples"
                )

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {name} is {value} at step {len(self.history.get('loss', ())) + 1} with "
                f"learning rate {self.optimizer.learning_rate}; the model keeps the weights it had "
                "before that step. Try a smaller learning rate"
            )

    def evaluate(self, data: Data, *, batch_size: int = 32) -> dict[str, float]:
        """Mean loss and accuracy over data, without training on it.

        The model runs in eval mode; the mode of each layer is restored afterwards.

        Returns
        -------
        dict
            "loss", the mean over all targets, and "accuracy", the fraction of targets for whose
            class the output is largest. Targets that the loss ignores do not count. There is no
            "accuracy" if the targets have the output's shape, and are thus no classes.
        """
        _check_data("data", data, batch_size)
        with self.model.scope(), _eval_mode(self.model):
            return self._evaluate(data, batch_size)

    def _evaluate(self, data: Data, batch_size: int) -> dict[str, float]:
        loss = right = targets = 0.0
        for x, y in _batches(data, batch_size, None)[0]:
            output, target = self.model(self._on_device(x)), self._on_device(y)
            ignored = getattr(self.loss, "ignore_index", None)
            counted = target == target if ignored is None else target != ignored
            count = int(counted.sum())
            loss += self.loss.forward(output, target) * count
            has_classes = target.shape != output.shape
            if has_classes:
                right += int(((output.argmax(1) == target) & counted).sum())
            targets += count
        if not targets:
            raise ValueError("data has no target that counts; it must be (x, y) or batches of them")
        mean = {"loss": loss / targets}
        return mean | {"accuracy": right / targets} if has_classes else mean

    def predict(self, x: Array, *, batch_size: int = 32) -> Array:
        """Output of the model for each sample, on the device of ``x``.

        The model runs in eval mode; the mode of each layer is restored afterwards.
        """
        integer("batch_size", batch_size, 1)
        home = owner_of(x)
        with _eval_mode(self.model):
            outputs = [
                _moved(self.model(self._on_device(x[start : start + batch_size])), home.device(x))
                for start in range(0, max(1, len(x)), batch_size)
            ]
        with home.scope(x):
            return home.xp.concatenate(outputs)

    def _on_device(self, array: Array) -> Array:
        """``array`` on the model's device."""
        return _moved(array, self.model.device)


@contextmanager
def _eval_mode(model: Layer) -> Iterator[None]:
    """Context in which a model is in eval mode; the mode of each layer is restored afterwards."""
    _check_owner(model)
    modes = [(layer, layer.training) for layer in model.walk()]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _check_owner(model: Layer) -> None:
    """Raise RuntimeError if another thread owns a network in the model."""
    for layer in model.walk():
        if isinstance(layer, Graph):
            layer.check_owner()


@quiet
def _total(parameters: list[Parameter]) -> float:
    """Sum of all gradients; one number, so that the CPU waits for a GPU only once."""
    return float(sum(p.gradient.sum() for p in parameters))


def _moved(array: Array, place: str) -> Array:
    """``array`` on the device named ``place``; the same object if it is there already."""
    if owner_of(array).device(array) == place:
        return array
    return moved(array, resolve(place))


def _check_object(name: str, value: object, methods: tuple[str, ...], wanted: str) -> None:
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}; it must be an object: call it")
    if not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{name} is {value!r}; it must be {wanted}")


def _check_data(name: str, data: object, batch_size: int) -> None:
    """Raise TypeError for data that is neither a pair of arrays nor an iterable of batches."""
    integer("batch_size", batch_size, 1)
    if hasattr(data, "shape") or isinstance(data, str) or not isinstance(data, Iterable):
        kind = "an array" if hasattr(data, "shape") else repr(data)
        raise TypeError(
            f"{name} is {kind}; it must be a pair of arrays, fit((x, y)), or an iterable of "
            "batches (x, y)"
        )
    if isinstance(data, tuple) and len(data) != 2 and any(hasattr(d, "shape") for d in data):
        raise TypeError(f"{name} is a tuple of {len(data)}; it must be a pair of arrays (x, y)")


def _batches(
    data: Data, batch_size: int, rng: np.random.Generator | None
) -> tuple[Iterable[Batch], int | None]:
    """Batches, and their number if it is known.

    A pair of arrays is split into batches, and shuffled if there is an ``rng``.
    """
    if isinstance(data, list | tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        data = (data[0], data[1])
    elif isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], tuple):
        raise TypeError(
            f"x is a {type(data[0]).__name__}; data must be (x, y) of arrays, or batches of them"
        )
    else:
        return data, len(data) if isinstance(data, Sized) else None
    x, y = data
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y {len(y)}; they must have the same number")
    order = np.arange(len(x)) if rng is None else rng.permutation(len(x))
    return _split(x, y, order, batch_size), -(-len(x) // batch_size)


def _split(x: Array, y: Array, order: Array, batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield _rows(x, chosen), _rows(y, chosen)


def _rows(array: Array, chosen: "np.ndarray[Any, Any]") -> Array:
    with scope_of(array):
        return array[owner_of(array).xp.asarray(chosen)]
